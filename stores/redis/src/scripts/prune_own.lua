-- Removes what the retention of single jobs no longer keeps.
-- ARGV: clock, origin, limit, job to begin at, how many of its executions to pass over, how many to look at.
-- Answers how many went, and the job and the number to go on with (or false).
local limit, job, offset, budget = tonumber(ARGV[3]), ARGV[4], tonumber(ARGV[5]), tonumber(ARGV[6])
local gone = 0
while budget > 0 do
  local next_job = call('ZRANGEBYLEX', P .. 'retaining', job == '' and '-' or '[' .. job, '+', 'LIMIT', 0, 1)[1]
  if not next_job then return { gone, false, 0 } end
  if next_job ~= job then job, offset = next_job, 0 end
  local s = state_of(job)
  local of = P .. 'of:' .. job
  local over = 0
  if s and s[15] then over = call('ZCOUNT', of, SETTLED, SETTLED) - live(open_of(job)) - s[15] end
  while s do
    if gone == limit or budget <= 0 then return { gone, job, offset } end
    local id = call('ZRANGEBYSCORE', of, SETTLED, SETTLED, 'LIMIT', offset, 1)[1]
    if not id then break end
    budget = budget - 1
    local h, rest = open(call('HGET', P .. 'x', id))
    local hi, lo = struct.unpack('>I4I2', id)
    -- Nothing ends before it was made, and ids sort by that.
    local young = not s[14] or hi * 65536 + lo >= NOW - s[14]
    if h and is_final(h) and (over > 0 or (s[14] and h[7] and h[7] < NOW - s[14])) then
      remove(id, h, rest)
      gone, over = gone + 1, over - 1
    elseif young and over <= 0 then
      break
    else
      offset = offset + 1
    end
  end
  budget = budget - 1
  job, offset = job .. '\0', 0
end
return { gone, job, offset }
