-- Removes executions that have ended. ARGV: clock, origin, ids ...
local gone = 0
for i = 3, #ARGV do
  local h, rest = open(call('HGET', P .. 'x', ARGV[i]))
  if h and is_final(h) then
    remove(ARGV[i], h, rest)
    gone = gone + 1
  end
end
return gone
