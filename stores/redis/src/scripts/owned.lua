-- What a node runs by the record; a dead one nothing. ARGV: clock, origin, node, epoch.
if not alive(ARGV[3], tonumber(ARGV[4])) then return { {}, {}, {}, {}, {} } end
local ids = call('ZRANGE', own_key(ARGV[3], ARGV[4]), 0, -1)
local rows, jobs, runs, definitions = {}, {}, {}, {}
for i, id in ipairs(ids) do
  local row = call('HGET', P .. 'x', id)
  local _, rest = open(row)
  local k = rest and open(rest)
  rows[i], jobs[i], runs[i], definitions[i] = row, false, false, false
  if k then
    jobs[i], runs[i] = call('HGET', P .. 'job', k[1]), call('HGET', P .. 'run', k[1])
    definitions[i] = call('HGET', P .. 'definition', k[1])
  end
end
return { ids, rows, jobs, runs, definitions }
