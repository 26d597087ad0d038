-- Takes jobs whose state can't be read out of the way. ARGV: clock, origin, number of jobs, ids ..., handlers ...
local n = tonumber(ARGV[3])
local handlers = {}
for i = n + 4, #ARGV do handlers[#handlers + 1] = ARGV[i] end
for _, l in ipairs(lanes_of(handlers)) do
  for _, handler in ipairs(l[2]) do
    call('ZREM', lane('j', handler, l[1]), unpack(ARGV, 4, n + 3))
  end
end
call('SADD', P .. 'faulty', unpack(ARGV, 4, n + 3))
return 1
