-- The second half of a claim: writes what was planned for each job that this claim still holds. Whatever
-- changes a job, or what of it is running, ends the hold.
-- ARGV: clock, origin, node, epoch, time of the plan, the hold, number of handlers, number of lanes,
-- handlers ..., and for each lane: handler, priority, number of groups. A group is either of jobs that each start one
-- execution that was never recorded before: number of jobs, when each is due next (and fires), when the execution
-- was due; and for each job: id, state, and the execution's id and row. Or of others: number of jobs, and twice
-- nothing; and for each job: id, state, number of records, due (empty: never), fire, running, queued, whether to
-- cancel what runs, the detail of setting it aside; and for each record: id, row, due, status, whether it may have
-- been recorded before.
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
local attempt, of = redis.pcall, P .. 'of:'

-- Files an execution of a job; false where the key of its job's executions holds something else.
local function index(job, score, x, due)
  return type(attempt('ZADD', of .. job, score, x, due, first_slot .. x)) == 'number'
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

-- Writes a job by the arguments from `a` on; answers what it won.
local function write(id, a, lane_of, times)
  if ARGV[a + 8] ~= '' then
    local s = state_of(id)
    unfile(id, s)
    set_aside(id, s, open(ARGV[a + 1])[6], ARGV[a + 8])
    return ''
  end
  local kind = call('TYPE', of .. id).ok
  if kind ~= 'zset' and kind ~= 'none' then
    broken(id)
    return false
  end
  local made = write_records(id, a, lane_of.handler, lane_of.priority)
  if not made then
    ready(id, state_of(id))
    return false
  end
  local due, fire = ARGV[a + 3], ARGV[a + 4]
  set[#set + 1] = id
  set[#set + 1] = ARGV[a + 1]
  if due ~= '' and fire == due then
    -- One list does for both orders.
    times[#times + 1] = due
    times[#times + 1] = id
    return made
  end
  call('ZADD', P .. 'by_due', due ~= '' and due or '+inf', id)
  if due == '' then
    call('ZREM', lane_of.key, id)
  else
    call('ZADD', lane_of.key, fire, id)
  end
  return made
end

-- Writes `n` jobs that each start one execution, by the arguments from `first` on. They are most of what there is,
-- so nothing here is done twice that can be done once.
local function start(n, next_due, due, first, is_ours, times)
  local n_set, n_times, n_rows, n_running, n_opened, n_wins = #set, #times, #rows, #running_now, #opened, #wins
  for a = first, first + (n - 1) * 4, 4 do
    local id, x = ARGV[a], ARGV[a + 2]
    n_wins = n_wins + 1
    if not is_ours(id) then
      wins[n_wins] = false
    elseif not index(id, SETTLED, x, due) then
      broken(id)
      wins[n_wins] = false
    else
      wins[n_wins] = '1'
      set[n_set + 1], set[n_set + 2], n_set = id, ARGV[a + 1], n_set + 2
      times[n_times + 1], times[n_times + 2], n_times = next_due, id, n_times + 2
      rows[n_rows + 1], rows[n_rows + 2], n_rows = x, ARGV[a + 3], n_rows + 2
      running_now[n_running + 1], running_now[n_running + 2], n_running = '0', x, n_running + 2
      opened[n_opened + 1], opened[n_opened + 2], n_opened = id, 'r' .. x, n_opened + 2
    end
  end
end

local as_planned = hold == 'moves ' .. (call('GET', P .. 'moves') or '')
call('INCR', P .. 'moves')
told_of_move = true
for _ = 1, tonumber(ARGV[8]) do
  local lane_of = { handler = ARGV[at], priority = ARGV[at + 1], key = lane('j', ARGV[at], ARGV[at + 1]) }
  local n_groups, times, held = tonumber(ARGV[at + 2]), {}, {}
  at = at + 3
  if not as_planned and tonumber(hold) then
    for _, id in ipairs(call('ZRANGEBYSCORE', lane_of.key, hold, hold)) do held[id] = true end
  end
  local function is_ours(id)
    return as_planned or held[id]
  end
  for _ = 1, n_groups do
    local n, next_due, due = tonumber(ARGV[at]), ARGV[at + 1], ARGV[at + 2]
    at = at + 3
    if next_due ~= '' then
      start(n, next_due, due, at, is_ours, times)
      at = at + 4 * n
    else
      for _ = 1, n do
        local id = ARGV[at]
        wins[#wins + 1] = is_ours(id) and write(id, at, lane_of, times) or false
        at = at + 9 + 5 * ARGV[at + 2]
      end
    end
  end
  bulk('ZADD', lane_of.key, times)
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
