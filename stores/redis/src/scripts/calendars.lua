-- Calendars. ARGV: clock, origin, what: 'put' name text, 'delete' name, 'list'.
local key = P .. 'calendars'
if ARGV[3] == 'list' then return call('HGETALL', key) end
local done = 1
if ARGV[3] == 'put' then
  call('HSET', key, ARGV[4], ARGV[5])
else
  done = call('HDEL', key, ARGV[4])
end
if done == 1 then
  call('INCR', key .. '_n')
  changed()
end
return done
