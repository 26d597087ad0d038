-- Adds rows of another store, but for those that are there already. ARGV: clock, origin, kind, and for each:
-- job: id, state, run, definition; execution: id, row, packed log lines; audit: job, entry.
-- Answers how many were added.
local kind, added = ARGV[3], 0

local function add_execution(id, row, lines)
  local h, after = open(row)
  local k, rest = open(after)
  if call('HEXISTS', P .. 'x', id) == 1 or find_occurrence(k[1], k[2], slot(k[3], k[4])) then return end
  if is_final(h) then
    call('HSET', P .. 'x', id, row)
    call('ZADD', P .. 'is:' .. h[1], 0, id)
    call('ZADD', P .. 'ended', h[7] or k[6], id)
    call('ZADD', P .. 'of:' .. k[1], SETTLED, id, k[2], slot(k[3], k[4]) .. id)
    if k[7] then call('ZADD', P .. 'roots', 0, k[7] .. id) end
  else
    insert_pending(id, h, k, rest)
  end
  note_recorded(k[1], k, state_of(k[1]))
  append_logs(id, 0, (open(lines)))
  added = added + 1
end

local function add_entry(job, entry)
  for _, n in ipairs(call('LRANGE', P .. 'audit_of:' .. job, 0, -1)) do
    if call('HGET', P .. 'audit', n) == entry then return end
  end
  add_audit(job, entry)
  added = added + 1
end

if kind == 'job' then
  for a = 4, #ARGV, 4 do
    if call('HEXISTS', P .. 'job', ARGV[a]) == 0 then
      add_job(ARGV[a], open(ARGV[a + 1]), ARGV[a + 2], ARGV[a + 3])
      added = added + 1
    end
  end
elseif kind == 'execution' then
  for a = 4, #ARGV, 3 do add_execution(ARGV[a], ARGV[a + 1], ARGV[a + 2]) end
else
  for a = 4, #ARGV, 2 do add_entry(ARGV[a], ARGV[a + 1]) end
end
if added > 0 and kind ~= 'audit' then changed() end
return added
