-- Edits a job. ARGV: clock, origin, id, expected version, packed pairs of field and value, definition (empty:
-- as it is), whether a name must be free, whether failures are forgotten, actor, action.
-- Answers {0} no such job, {1, job ...} stale, {2, id} name taken, {3, job ...} done.
local id = ARGV[3]
local s = state_of(id)
if not s then return { 0 } end
local function job()
  return { call('HGET', P .. 'job', id), call('HGET', P .. 'run', id), call('HGET', P .. 'definition', id) }
end
if s[1] ~= tonumber(ARGV[4]) then return { 1, job() } end
local name = s[13]
local edits = open(ARGV[5])
for _, edit in ipairs(edits) do
  if edit[1] == 13 then name = edit[2] end
end
if ARGV[7] == '1' and name ~= s[13] then
  local range = { '[' .. name .. '\0', '(' .. name .. '\1' }
  for _, m in ipairs(call('ZRANGEBYLEX', P .. 'names', range[1], range[2], 'LIMIT', 0, 2)) do
    local other = m:sub(#name + 2)
    if other ~= id then return { 2, other } end
  end
end
may_change(id)
unfile(id, s)
local due_before, old_name, old_handler, old_priority = s[3], s[13], s[10], s[11]
for _, edit in ipairs(edits) do s[edit[1]] = edit[2] end
s[1], s[9] = s[1] + 1, NOW
file(id, s)
if ARGV[6] ~= '' then
  local created = open(call('HGET', P .. 'definition', id))
  local d = open(ARGV[6])
  if created then d[1], d[2] = created[1], created[2] end
  call('HSET', P .. 'definition', id, pack(d))
end
if name ~= old_name then
  call('ZREM', P .. 'names', old_name .. '\0' .. id)
  call('ZADD', P .. 'names', 0, name .. '\0' .. id)
end
if ARGV[8] == '1' then
  local r = open(call('HGET', P .. 'run', id))
  if r then
    r[4] = 0
    call('HSET', P .. 'run', id, pack(r))
  end
end
audit(id, s, ARGV[10], ARGV[9], due_before, '')
-- What waits is run by whoever runs the job from now on.
if s[10] ~= old_handler or s[11] ~= old_priority then
  for _, x in ipairs(call('ZRANGEBYSCORE', P .. 'of:' .. id, QUEUED, WAITING)) do
    local h, rest = open(call('HGET', P .. 'x', x))
    if h then
      call('ZREM', lane('x', h[10], h[11]), x .. id)
      h[10], h[11] = s[10], s[11]
      open_lane(s[10], s[11])
      call('ZADD', lane('x', s[10], s[11]), h[12], x .. id)
      call('HSET', P .. 'x', x, pack(h) .. rest)
    end
  end
end
changed()
return { 3, job() }
