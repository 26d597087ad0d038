-- Removes what ended before a time, but for jobs with a retention of their own.
-- ARGV: clock, origin, max_age, limit, how many to pass over, how many to look at.
-- Answers how many went, how many were passed over so far, and whether this was the last page.
local before, limit = NOW - tonumber(ARGV[3]), tonumber(ARGV[4])
local offset, budget = tonumber(ARGV[5]), tonumber(ARGV[6])
local ids = call('ZRANGEBYSCORE', P .. 'ended', '-inf', '(' .. before, 'LIMIT', offset, budget)
local gone = 0
for _, id in ipairs(ids) do
  if gone == limit then return { gone, offset, false } end
  local h, rest = open(call('HGET', P .. 'x', id))
  local k = rest and open(rest)
  local s = k and state_of(k[1])
  if not k or (s and s[14]) then
    offset = offset + 1
  else
    remove(id, h, rest)
    gone = gone + 1
  end
end
return { gone, offset, #ids < budget }
