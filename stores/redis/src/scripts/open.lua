-- Looks whether the keys of the namespace are ours. ARGV: clock, origin.
-- Answers {layout that is there, ours}; 0 for one from before there was a mark. Or {-1, key, its type}.
local hashes = { 'job', 'run', 'definition', 'open', 'x', 'nodes', 'audit', 'keys', 'calendars' }
local sets = { 'by_id', 'by_due', 'by_run', 'by_created', 'names', 'retaining', 'ended', 'owners', 'leases', 'roots' }
local function foreign(names, kind)
  for _, name in ipairs(names) do
    local found = call('TYPE', P .. name).ok
    if found ~= kind and found ~= 'none' then return { -1, P .. name, found } end
  end
end
local odd = foreign(hashes, 'hash') or foreign(sets, 'zset') or foreign({ 'format', 'epoch' }, 'string')
if odd then return odd end
local there = call('GET', P .. 'format')
if there then return { tonumber(there) or 0, tonumber(FORMAT) } end
if call('EXISTS', P .. 'job', P .. 'epoch', P .. 'x') > 0 then return { 0, tonumber(FORMAT) } end
-- A replica takes no writes; whoever writes first to the primary makes the mark.
redis.pcall('SET', P .. 'format', FORMAT)
return { tonumber(FORMAT), tonumber(FORMAT) }
