-- Log lines. ARGV: clock, origin, id, first, last.
return call('LRANGE', P .. 'log:' .. ARGV[3], ARGV[4], ARGV[5])
