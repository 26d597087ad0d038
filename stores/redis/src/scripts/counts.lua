-- How much there is. ARGV: clock, origin, statuses ...
local by = {}
for i = 3, #ARGV do by[i - 2] = call('ZCARD', P .. 'is:' .. ARGV[i]) end
local oldest = false
for _, handler in ipairs(call('SMEMBERS', P .. 'handlers')) do
  local priorities = call('SMEMBERS', P .. 'priorities:' .. handler)
  if #priorities == 0 then call('SREM', P .. 'handlers', handler) end
  for _, priority in ipairs(priorities) do
    for _, kind in ipairs({ 'j', 'x' }) do
      local at = tonumber(call('ZRANGE', lane(kind, handler, priority), 0, 0, 'WITHSCORES')[2])
      if at and at <= NOW and (not oldest or at < oldest) then oldest = at end
    end
  end
end
return { call('HLEN', P .. 'job'), call('SCARD', P .. 'disabled'), call('SCARD', P .. 'faulty'), oldest, by }
