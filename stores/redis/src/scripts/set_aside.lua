-- Sets a job aside whose definition can't be read. ARGV: clock, origin, id, version, fault, detail.
local s = state_of(ARGV[3])
if not s or s[1] ~= tonumber(ARGV[4]) or s[6] then return 0 end
may_change(ARGV[3])
set_aside(ARGV[3], s, ARGV[5], ARGV[6])
return 1
