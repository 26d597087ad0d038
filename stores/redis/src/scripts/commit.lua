-- The second half of a claim: writes what was planned for each job that this claim still holds. Whatever
-- changes a job, or what of it is running, ends the hold.
-- ARGV: clock, origin, node, epoch, time of the plan, the hold, number of handlers, number of lanes,
-- handlers ..., and for each lane: handler, priority, number of jobs; and for each of its jobs: id, state, and
-- how many records it gets, or `s` for one that starts and was never recorded before. Then, for `s`: due (fire is
-- the same), and the record's id, row and due. Else: due (empty: never), fire, running, queued, whether to cancel
-- what runs, the detail of setting it aside, and for each record: id, row, due, status, whether it may have been
-- recorded before.
-- Answers wins: false, or for each record of the job 1 or 0.
local node, epoch, planned_at = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local hold = ARGV[6]
local n = alive(node, epoch)
if not n or NOW >= n[5] then return { 0 } end
local handlers, at = {}, 9
for i = 1, tonumber(ARGV[7]) do
  handlers[i] = ARGV[at]
  at = at + 1
end

local first_slot = slot(1, '')
local set = {}
local running_now = {}
local rows, is, ended, opened = {}, { running = running_now }, {}, {}
local wins, cancelled = {}, {}
local key, times

-- Files an execution of a job; false where the key of its job's executions holds something else.
local function index(job, score, x, due)
  return type(redis.pcall('ZADD', P .. 'of:' .. job, score, x, due, first_slot .. x)) == 'number'
end

local function broken(id)
  local s = state_of(id)
  if not s then return end
  set_aside(id, s, 'the key of its executions holds something else', '{"reason":"a key holds something else"}')
end

local function stop_running(id, text)
  for i = 1, #text, 17 do
    local x = text:sub(i + 1, i + 16)
    local h, rest = open(text:byte(i) ~= 113 and call('HGET', P .. 'x', x))
    if h then
      h[5] = true
      call('HSET', P .. 'x', x, pack(h) .. rest)
      call('SADD', stop_key(h[2], h[3]), x)
      cancelled[#cancelled + 1] = x
    end
  end
end

-- Writes the records of a job; false when what of it is open is no longer as it was planned for.
local function write_records(id, a, handler, priority)
  local n_records = tonumber(ARGV[a + 2])
  local text = open_of(id)
  local running, queued = live(text)
  if running ~= tonumber(ARGV[a + 5]) or queued ~= tonumber(ARGV[a + 6]) then return false end
  if ARGV[a + 7] == '1' then stop_running(id, text) end
  local made = {}
  for r = 1, n_records do
    local p = a + 4 + r * 5
    local x, status = ARGV[p], ARGV[p + 3]
    local score = status == 'pending' and QUEUED or SETTLED
    made[r] = '1'
    if ARGV[p + 4] == '1' and find_occurrence(id, ARGV[p + 2], first_slot) then
      made[r] = '0'
    else
      index(id, score, x, ARGV[p + 2])
      rows[#rows + 1] = x
      rows[#rows + 1] = ARGV[p + 1]
      is[status] = is[status] or {}
      table.insert(is[status], '0')
      table.insert(is[status], x)
      if status == 'running' then
        text = text .. 'r' .. x
      elseif status == 'pending' then
        text = text .. 'q' .. x
        open_lane(handler, priority)
        call('ZADD', lane('x', handler, priority), planned_at, x .. id)
      else
        ended[#ended + 1] = planned_at
        ended[#ended + 1] = x
      end
    end
  end
  set_open(id, text)
  return table.concat(made)
end

local function write(id, a, handler, priority)
  local due = ARGV[a + 3]
  local fire = due
  if ARGV[a + 2] == 's' then
    local x = ARGV[a + 4]
    if not index(id, SETTLED, x, ARGV[a + 6]) then return broken(id) end
    rows[#rows + 1] = x
    rows[#rows + 1] = ARGV[a + 5]
    running_now[#running_now + 1] = '0'
    running_now[#running_now + 1] = x
    opened[#opened + 1] = id
    opened[#opened + 1] = 'r' .. x
    wins[#wins] = '1'
  else
    if ARGV[a + 8] ~= '' then
      local s = state_of(id)
      unfile(id, s)
      set_aside(id, s, open(ARGV[a + 1])[6], ARGV[a + 8])
      wins[#wins] = ''
      return
    end
    local kind = call('TYPE', P .. 'of:' .. id).ok
    if kind ~= 'zset' and kind ~= 'none' then return broken(id) end
    local made = write_records(id, a, handler, priority)
    if not made then return ready(id, state_of(id)) end
    wins[#wins] = made
    fire = ARGV[a + 4]
  end
  set[#set + 1] = id
  set[#set + 1] = ARGV[a + 1]
  if due ~= '' and fire == due then
    -- One list does for both orders.
    times[#times + 1] = due
    times[#times + 1] = id
    return
  end
  call('ZADD', P .. 'by_due', due ~= '' and due or '+inf', id)
  if due == '' then
    call('ZREM', key, id)
  else
    call('ZADD', key, fire, id)
  end
end

local as_planned = hold == 'moves ' .. (call('GET', P .. 'moves') or '')
call('INCR', P .. 'moves')
told_of_move = true
for _ = 1, tonumber(ARGV[8]) do
  local handler, priority, count = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2])
  key, times = lane('j', handler, priority), {}
  at = at + 3
  local held = {}
  if not as_planned and tonumber(hold) then
    for _, id in ipairs(call('ZRANGEBYSCORE', key, hold, hold)) do held[id] = true end
  end
  for i = 1, count do
    local id, place, kind = ARGV[at], at, ARGV[at + 2]
    at = at + (kind == 's' and 7 or 9 + 5 * kind)
    wins[#wins + 1] = false
    if as_planned or held[id] then write(id, place, handler, priority) end
  end
  bulk('ZADD', key, times)
  bulk('ZADD', P .. 'by_due', times)
end
bulk('HSET', P .. 'job', set)
bulk('HSET', P .. 'x', rows)
bulk('HSET', P .. 'open', opened)
for status, list in pairs(is) do bulk('ZADD', P .. 'is:' .. status, list) end
bulk('ZADD', P .. 'ended', ended)
if #running_now > 0 then
  bulk('ZADD', own_key(node, epoch), running_now)
  call('ZADD', P .. 'owners', 0, node .. '\0' .. epoch)
end
local more, next_at = look_ahead(lanes_of(handlers))
return { 1, wins, cancelled, more, next_at }
