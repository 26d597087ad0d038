-- Removes a job. ARGV: clock, origin, id, actor, last record of what is cancelled.
local id = ARGV[3]
may_change(id)
local s = state_of(id)
if s then
  unfile(id, s)
elseif call('HEXISTS', P .. 'job', id) == 1 then
  -- One that can't be read still has its name in the definition.
  local definition = open(call('HGET', P .. 'definition', id))
  local ok, d = pcall(cjson.decode, definition and definition[3] or '')
  s = { 0, [13] = ok and type(d) == 'table' and d.name or id }
else
  return 0
end
local due_before = s[3]
s[3], s[4] = false, false
audit(id, s, 'deleted', ARGV[4], due_before, '')
for _, key in ipairs({ 'job', 'run', 'definition' }) do call('HDEL', P .. key, id) end
for _, key in ipairs({ 'by_id', 'by_due', 'by_run', 'by_created', 'retaining' }) do call('ZREM', P .. key, id) end
call('ZREM', P .. 'names', s[13] .. '\0' .. id)
call('SREM', P .. 'disabled', id)
call('SREM', P .. 'faulty', id)
for _, x in ipairs(call('ZRANGEBYSCORE', P .. 'of:' .. id, QUEUED, WAITING)) do
  local h, rest = open(call('HGET', P .. 'x', x))
  if h then end_pending(x, h, rest, ARGV[5]) end
end
mark_open(id, 'd')
changed()
return 1
