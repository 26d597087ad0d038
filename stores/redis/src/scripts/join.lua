-- Enters a node. ARGV: clock, origin, node, ttl, info.
mark_format()
never_a_list()
forget_nodes()
local epoch = call('INCR', P .. 'epoch')
local until_ = NOW + tonumber(ARGV[4])
call('HSET', P .. 'nodes', ARGV[3], pack({ epoch, false, NOW, NOW, until_, ARGV[5] }))
call('ZADD', P .. 'leases', until_, ARGV[3])
return { epoch, NOW }
