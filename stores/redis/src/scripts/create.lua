-- Stores jobs, all or none. ARGV: clock, origin, actor, unique names, jobs that may exist already (packed pairs of
-- id and definition as it was seen), whether only to look, number, and for each: id, state, run, definition.
-- Answers {1}, or {0, definitions found, other owners of the names} when something is in the way.
local actor, unique = ARGV[3], ARGV[4] == '1'
local known = {}
for _, pair in ipairs((open(ARGV[5]))) do known[pair[1]] = pair[2] end
local found, named, clash = {}, {}, false
local count = tonumber(ARGV[7])
for i = 1, count do
  local a = 8 + (i - 1) * 4
  local id = ARGV[a]
  may_change(id)
  found[i] = call('HGET', P .. 'definition', id)
  named[i] = false
  if found[i] then
    if known[id] ~= found[i] then clash = true end
  elseif unique then
    local name = open(ARGV[a + 1])[13]
    for _, m in ipairs(call('ZRANGEBYLEX', P .. 'names', '[' .. name .. '\0', '(' .. name .. '\1', 'LIMIT', 0, 2)) do
      local other = m:sub(#name + 2)
      if other ~= id and not named[i] then
        named[i] = other
        clash = true
      end
    end
  end
end
if clash or ARGV[6] == '1' then return { 0, found, named } end
local made = false
for i = 1, count do
  local a = 8 + (i - 1) * 4
  local id = ARGV[a]
  if not found[i] then
    local s = open(ARGV[a + 1])
    add_job(id, s, ARGV[a + 2], ARGV[a + 3])
    audit(id, s, 'created', actor, false, '')
    made = true
  end
end
if made then changed() end
return { 1 }
