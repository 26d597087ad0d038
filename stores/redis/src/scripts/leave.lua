-- Ends a node's membership. ARGV: clock, origin, node, epoch.
local n = alive(ARGV[3], tonumber(ARGV[4]))
if n then
  n[2] = NOW
  call('HSET', P .. 'nodes', ARGV[3], pack(n))
  call('ZREM', P .. 'leases', ARGV[3])
end
return 1
