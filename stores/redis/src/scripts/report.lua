-- News of running executions. ARGV: clock, origin, node, epoch, and for each: id, claim, first line, packed
-- lines, progress (empty: as it is).
local node, epoch, applied = ARGV[3], tonumber(ARGV[4]), 0
if not alive(node, epoch) then return 0 end
for a = 5, #ARGV, 5 do
  local id = ARGV[a]
  local h, rest = open(call('HGET', P .. 'x', id))
  if h and h[1] == 'running' and h[2] == node and h[3] == epoch and h[4] == tonumber(ARGV[a + 1]) then
    applied = applied + 1
    append_logs(id, tonumber(ARGV[a + 2]), (open(ARGV[a + 3])))
    if ARGV[a + 4] ~= '' then
      h[13] = ARGV[a + 4]
      call('HSET', P .. 'x', id, pack(h) .. rest)
    end
  end
end
return applied
