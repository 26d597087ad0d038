-- One execution. ARGV: clock, origin, id.
return call('HGET', P .. 'x', ARGV[3])
