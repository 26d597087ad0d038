-- Finds dead nodes and what they left. ARGV: clock, origin, grace, limit, owner and id to begin after.
-- Answers the time, the nodes that this call found dead, what they left (id, row, job, run, definition), and
-- where to go on.
local grace, limit = tonumber(ARGV[3]), tonumber(ARGV[4])
local from_owner, after = ARGV[5], ARGV[6]
local found = {}
for _, node in ipairs(call('ZRANGEBYSCORE', P .. 'leases', '-inf', '(' .. (NOW - grace))) do
  local n = open(call('HGET', P .. 'nodes', node))
  if n then
    n[2] = NOW
    call('HSET', P .. 'nodes', node, pack(n))
    found[#found + 1] = { node, n[1] }
  end
  call('ZREM', P .. 'leases', node)
end
forget_nodes()
local left = {}
for _, owner in ipairs(call('ZRANGEBYLEX', P .. 'owners', from_owner == '' and '-' or '[' .. from_owner, '+')) do
  local at = owner:find('\0', 1, true)
  local since = (owner == from_owner and after ~= '') and '(' .. after or '-'
  if not alive(owner:sub(1, at - 1), tonumber(owner:sub(at + 1))) then
    local ids = call('ZRANGEBYLEX', P .. 'own:' .. owner, since, '+', 'LIMIT', 0, limit - #left)
    if #ids == 0 and since == '-' then
      forget_owner(owner)
    end
    for _, id in ipairs(ids) do
      local row = call('HGET', P .. 'x', id)
      local _, rest = open(row)
      local k = rest and open(rest)
      local job = k and k[1] or ''
      left[#left + 1] = { owner, id, row, call('HGET', P .. 'job', job), call('HGET', P .. 'run', job),
        call('HGET', P .. 'definition', job) }
      if not row then call('ZREM', P .. 'own:' .. owner, id) end
    end
    if #left == limit then break end
  end
end
return { NOW, found, left }
