-- Adds rows of another store. ARGV: clock, origin, and for each: kind, key, and three parts:
--   job: id, state, run, definition;  execution: id, row, packed lines;  audit: job, entry
-- Answers how many were added of each kind.
local added = { job = 0, execution = 0, audit = 0 }
local add = {}

function add.job(id, state, run, definition)
  if call('HEXISTS', P .. 'definition', id) == 1 then return end
  create_job(id, open(state), run, definition)
  return true
end

function add.execution(id, row, lines)
  local h, after = open(row)
  local k, rest = open(after)
  if call('HEXISTS', P .. 'x', id) == 1 or find_occurrence(k[1], k[2], slot(k[3], k[4])) then return end
  if h[1] == 'pending' then
    insert_pending(id, h, k, rest)
  else
    call('HSET', P .. 'x', id, row)
    call('ZADD', P .. 'is:' .. h[1], 0, id)
    call('ZADD', P .. 'ended', h[6] or k[6], id)
    call('ZADD', P .. 'of:' .. k[1], ENDED, id)
    call('ZADD', P .. 'due:' .. k[1], k[2], slot(k[3], k[4]) .. id)
    if k[7] then call('ZADD', P .. 'roots', 0, k[7] .. id) end
  end
  append_logs(id, 0, (open(lines)))
  return true
end

function add.audit(job, bytes)
  local e = open(bytes)
  for _, n in ipairs(call('LRANGE', P .. 'audit_of:' .. job, 0, -1)) do
    local known = open(call('HGET', P .. 'audit', n))
    if known and known[1] == e[1] and known[4] == e[4] and known[5] == e[5] and known[6] == e[6] and known[8] == e[8] then
      return
    end
  end
  local n = call('INCR', P .. 'audit_n')
  call('HSET', P .. 'audit', n, bytes)
  call('RPUSH', P .. 'audit_of:' .. job, n)
  return true
end

for a = 3, #ARGV, 5 do
  local kind = ARGV[a]
  if add[kind](ARGV[a + 1], ARGV[a + 2], ARGV[a + 3], ARGV[a + 4]) then added[kind] = added[kind] + 1 end
end
if added.job + added.execution > 0 then changed() end
return { added.job, added.execution, added.audit }
