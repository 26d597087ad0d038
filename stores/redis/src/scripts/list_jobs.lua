-- A stretch of the list of jobs, in one of its orders. ARGV: clock, origin, order, whether descending, place
-- to begin at, how many to look at, name ('=' and the text, or '-'), enabled (1, 0 or empty), faulty (the
-- same), the id to begin after ('=' and the text, or '-'), handlers ...
-- Answers the ids that fit, and the place to go on at, or false at the end. With a name, all of that name.
local order, descending, place, budget = ARGV[3], ARGV[4] == '1', tonumber(ARGV[5]), tonumber(ARGV[6])
local key = P .. order
local found, handlers, any = {}, {}, true
for i = 11, #ARGV do
  handlers[ARGV[i]] = true
  any = false
end

local function check(id)
  local s = state_of(id)
  if not s then
    -- One that can't be read is shown as what it is: faulty, and not enabled.
    local fits = any and ARGV[8] ~= '1' and ARGV[9] ~= '0' and call('HEXISTS', P .. 'job', id) == 1
    if fits then found[#found + 1] = id end
    return
  end
  if (any or handlers[s[10]]) and (ARGV[8] == '' or (ARGV[8] == '1') == s[2])
    and (ARGV[9] == '' or (ARGV[9] == '1') == (s[6] and true)) then
    found[#found + 1] = id
  end
end

if ARGV[7] ~= '-' then
  local name = ARGV[7]:sub(2)
  for _, m in ipairs(call('ZRANGEBYLEX', P .. 'names', '[' .. name .. '\0', '(' .. name .. '\1')) do
    check(m:sub(#name + 2))
  end
  return { found, false }
end

local total = call('ZCARD', key)
if ARGV[10] ~= '-' then place = math.max(place, call('ZLEXCOUNT', key, '-', '[' .. ARGV[10]:sub(2))) end

-- Up to `n` members from `at` on. In a descending list ties still go by id, and what has no value is last.
local function take(at, n)
  if not descending then return call('ZRANGE', key, at, at + n - 1) end
  if order == 'by_id' then return call('ZREVRANGE', key, at, at + n - 1) end
  if order == 'names' then
    local m = call('ZREVRANGE', key, at, at)[1]
    local name = m:sub(1, m:find('\0', 1, true) - 1)
    local above = call('ZLEXCOUNT', key, '[' .. name .. '\1', '+')
    return call('ZRANGEBYLEX', key, '[' .. name .. '\0', '(' .. name .. '\1', 'LIMIT', at - above, n)
  end
  local without = call('ZCOUNT', key, '+inf', '+inf')
  if at >= total - without then
    return call('ZRANGEBYSCORE', key, '+inf', '+inf', 'LIMIT', at - total + without, n)
  end
  local score = call('ZREVRANGE', key, at + without, at + without, 'WITHSCORES')[2]
  local above = call('ZCOUNT', key, '(' .. score, '(+inf')
  return call('ZRANGEBYSCORE', key, score, score, 'LIMIT', at - above, n)
end

while place < total do
  if budget <= 0 then return { found, place } end
  local page = take(place, math.min(budget, 256))
  if #page == 0 then break end
  for _, m in ipairs(page) do
    check(order == 'names' and m:sub(m:find('\0', 1, true) + 1) or m)
  end
  place, budget = place + #page, budget - #page
end
return { found, false }
