-- A stretch of the list of executions. ARGV: clock, origin, sort (newest, oldest, due), job ('=' and the id, or
-- '-'), cursor (an id; for due a place; or empty), id to stop at (or empty), how many to look at, how many
-- that fit to pass over, how many to answer, trigger, node ('=' and the id, or '-'), root (or empty), since,
-- until (or empty), whether rows are wanted, statuses ...
-- Answers ids, rows, how many fitted, how many of those were passed over, and the cursor to go on at, or
-- false at the end.
local sort, job, cursor, stop = ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local budget, offset, want = tonumber(ARGV[7]), tonumber(ARGV[8]), tonumber(ARGV[9])
local trigger, node, root = ARGV[10], ARGV[11], ARGV[12]
local since, till, with_rows = tonumber(ARGV[13]), tonumber(ARGV[14]), ARGV[15] == '1'
local statuses, any = {}, true
for i = 16, #ARGV do
  statuses[ARGV[i]] = true
  any = false
end
job = job ~= '-' and job:sub(2) or nil
node = node ~= '-' and node:sub(2) or nil

-- Whether id `a` sorts before id `b`: by bytes, whatever the server's locale.
local function before(a, b)
  local a1, a2, a3, a4 = struct.unpack('>I4I4I4I4', a)
  local b1, b2, b3, b4 = struct.unpack('>I4I4I4I4', b)
  if a1 ~= b1 then return a1 < b1 end
  if a2 ~= b2 then return a2 < b2 end
  if a3 ~= b3 then return a3 < b3 end
  return a4 < b4
end

-- Each source gives ids in order; the first of all of them is next.
local newest, sources = sort == 'newest', {}

local function source(key, low, high)
  if cursor ~= '' then
    local a, b = low, high + 1
    while a < b do
      local middle = math.floor((a + b) / 2)
      local id = call('ZRANGE', key, middle, middle)[1]
      if before(id, cursor) or (not newest and id == cursor) then a = middle + 1 else b = middle end
    end
    if newest then high = a - 1 else low = a end
  end
  sources[#sources + 1] = { key = key, low = low, high = high, page = {}, at = 1 }
end

local function head(s)
  if s.at > #s.page then
    if s.low > s.high then return nil end
    s.at = 1
    if newest then
      s.page = call('ZREVRANGE', s.key, call('ZCARD', s.key) - 1 - s.high,
        call('ZCARD', s.key) - 1 - math.max(s.low, s.high - 127))
      s.high = s.high - #s.page
    else
      s.page = call('ZRANGE', s.key, s.low, math.min(s.high, s.low + 127))
      s.low = s.low + #s.page
    end
  end
  return s.page[s.at]
end

local function next_id()
  local best, id
  for _, s in ipairs(sources) do
    local candidate = head(s)
    if candidate and (not id or before(candidate, id) ~= newest) then best, id = s, candidate end
  end
  if best then best.at = best.at + 1 end
  return id
end

local place
if sort == 'due' then
  -- In the job's set the places by id come before those by due time.
  local key = P .. 'of:' .. job
  local by_id, after_ids = call('ZCOUNT', key, SETTLED, WAITING), '(' .. WAITING
  place = tonumber(cursor) or (since and call('ZCOUNT', key, after_ids, '(' .. since)) or 0
  local high = till and call('ZCOUNT', key, after_ids, '(' .. till) or call('ZCARD', key) - by_id
  cursor = ''
  source(key, by_id + place, by_id + high - 1)
elseif root ~= '' then
  local list = { root }
  for _, m in ipairs(call('ZRANGEBYLEX', P .. 'roots', '[' .. root, '+')) do
    if m:sub(1, 16) ~= root then break end
    list[#list + 1] = m:sub(17)
  end
  table.sort(list, function(a, b) return before(a, b) ~= newest and a ~= b end)
  for _, id in ipairs(list) do
    if cursor == '' or (id ~= cursor and before(id, cursor) == newest) then
      sources[1] = sources[1] or { low = 0, high = -1, page = {}, at = 1 }
      table.insert(sources[1].page, id)
    end
  end
elseif job then
  local key, low = P .. 'of:' .. job, 0
  for _, score in ipairs({ SETTLED, QUEUED, WAITING }) do
    local n = call('ZCOUNT', key, score, score)
    if n > 0 then source(key, low, low + n - 1) end
    low = low + n
  end
else
  local all = { 'pending', 'running', 'success', 'completed', 'partial', 'partial_success', 'failed', 'timeout',
    'cancelled', 'skipped', 'lost' }
  for _, status in ipairs(all) do
    if any or statuses[status] then
      local key = P .. 'is:' .. status
      source(key, 0, call('ZCARD', key) - 1)
    end
  end
end

local by_key = sort ~= 'due' and (any or not job) and trigger == '' and not node and root == '' and not since and not till
local ids, rows, fitted, passed = {}, {}, 0, 0
while true do
  if budget <= 0 then return { ids, rows, fitted, passed, place or cursor } end
  local id = next_id()
  if not id or (stop ~= '' and before(id, stop) == newest and sort ~= 'due') then
    return { ids, rows, fitted, passed, false }
  end
  if place then
    place = place + 1
    id = id:sub(-16)
  else
    cursor = id
  end
  local fits = by_key
  if by_key then
    budget = budget - 0.1
  else
    budget = budget - 1
    local h, rest = open(call('HGET', P .. 'x', id))
    local k = rest and open(rest)
    if k then
      local time = place and k[2] or k[6]
      fits = (any or statuses[h[1]]) and (not job or k[1] == job) and (trigger == '' or k[5] == trigger)
        and (not node or h[2] == node) and (root == '' or id == root or k[7] == root)
        and (not since or time >= since) and (not till or time < till)
    end
  end
  if fits then
    fitted = fitted + 1
    if passed < offset then
      passed = passed + 1
    elseif #ids < want then
      ids[#ids + 1] = id
      if with_rows then rows[#rows + 1] = call('HGET', P .. 'x', id) end
    end
    if with_rows and #ids == want and passed >= offset then
      return { ids, rows, fitted, passed, place or cursor }
    end
  end
end
