-- The place behind an execution in the list of its job's by due time, or false. ARGV: clock, origin, id, job.
local h, rest = open(call('HGET', P .. 'x', ARGV[3]))
local k = rest and open(rest)
if not k then return false end
local key = P .. 'of:' .. ARGV[4]
local place = call('ZRANK', key, slot(k[3], k[4]) .. ARGV[3])
return place and place - call('ZCOUNT', key, SETTLED, WAITING)
