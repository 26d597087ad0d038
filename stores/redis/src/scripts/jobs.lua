-- Reads jobs. ARGV: clock, origin, whether with definitions, ids ...
local ids = {}
for i = 4, #ARGV do ids[i - 3] = ARGV[i] end
if #ids == 0 then return { {}, {}, {} } end
local definitions = ARGV[3] == '1' and get_all(P .. 'definition', ids) or {}
return { get_all(P .. 'job', ids), get_all(P .. 'run', ids), definitions }
