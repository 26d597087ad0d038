-- Cancels an execution. ARGV: clock, origin, id, last record when it was pending.
local id = ARGV[3]
local h, rest = open(call('HGET', P .. 'x', id))
if not h then return { 0 } end
if h[1] == 'pending' then
  end_pending(id, h, rest, ARGV[4])
  changed()
  return { 1 }
elseif h[1] == 'running' then
  h[5] = true
  call('HSET', P .. 'x', id, pack(h) .. rest)
  call('SADD', stop_key(h[2], h[3]), id)
  changed()
  return { 2 }
end
return { 3, h[1] }
