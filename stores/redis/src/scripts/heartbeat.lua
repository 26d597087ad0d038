-- Renews a lease. ARGV: clock, origin, node, epoch, ttl, info.
local node, epoch = ARGV[3], tonumber(ARGV[4])
local n = alive(node, epoch)
if not n then return { 0 } end
n[4], n[5], n[6] = NOW, NOW + tonumber(ARGV[5]), ARGV[6]
call('HSET', P .. 'nodes', node, pack(n))
call('ZADD', P .. 'leases', n[5], node)
-- So that the process knows that its subscription lives, and need not ask.
call('PUBLISH', P .. 'hints:' .. ARGV[2], '')
local overdue = call('ZCOUNT', P .. 'leases', '-inf', NOW) > 0
for _, owner in ipairs(call('ZRANGE', P .. 'owners', 0, -1)) do
  local at = owner:find('\0', 1, true)
  if not alive(owner:sub(1, at - 1), tonumber(owner:sub(at + 1))) then
    if call('ZCARD', P .. 'own:' .. owner) > 0 then
      overdue = true
    else
      forget_owner(owner)
    end
  end
end
return { 1, NOW, call('SMEMBERS', stop_key(node, epoch)), overdue, call('ZCARD', own_key(node, epoch)) }
