-- The first half of a claim: starts pending executions, and takes due jobs out of their lanes, for a few
-- seconds, so that no other node plans them too.
-- ARGV: clock, origin, node, epoch, limit, hold, handlers ...
local node, epoch = ARGV[3], tonumber(ARGV[4])
local limit, hold = tonumber(ARGV[5]), tonumber(ARGV[6])
local n = alive(node, epoch)
if not n or NOW >= n[5] then return { 0 } end

-- What a node took and did not bring back; also what was taken before the clock stepped back.
for _, range in ipairs({ { '-inf', NOW }, { NOW + hold + 1, '+inf' } }) do
  for _, id in ipairs(call('ZRANGEBYSCORE', P .. 'reserved', range[1], range[2], 'LIMIT', 0, 200)) do
    call('ZREM', P .. 'reserved', id)
    local s = open(call('HGET', P .. 'job', id))
    if s then ready(id, s) end
  end
end

local handlers = {}
for i = 7, #ARGV do handlers[i - 6] = ARGV[i] end
local lanes = lanes_of(handlers)

-- Pending executions, by priority, then time. Those of a job that runs as often as it may are passed over.
local jobs, picked, more, blocked = {}, {}, false, false

local function job_of(id)
  if not jobs[id] then
    local bytes = call('HGET', P .. 'job', id)
    local s = open(bytes)
    local free = 0
    if s and not s[6] then free = s[12] - running_of(id) end
    jobs[id] = { bytes = bytes, open = s and not s[6], free = free }
  end
  return jobs[id]
end

local function startable(key, want, found)
  local used, offset, last = {}, 0, #found + want
  while true do
    local page = call('ZRANGEBYSCORE', key, '-inf', NOW, 'WITHSCORES', 'LIMIT', offset, 256)
    for i = 1, #page, 2 do
      local id = page[i]:sub(17)
      local job = job_of(id)
      local n_used = used[id] or 0
      if n_used < job.free then
        used[id] = n_used + 1
        found[#found + 1] = { at = tonumber(page[i + 1]), n = #found, key = key, member = page[i], job = id }
        if #found == last then return end
      elseif job.open then
        blocked = true
      end
    end
    if #page < 512 then return end
    offset = offset + 256
  end
end

for _, l in ipairs(lanes) do
  local found = {}
  for _, handler in ipairs(l[2]) do
    startable(lane('x', handler, l[1]), limit - #picked + 1, found)
  end
  table.sort(found, function(a, b) return a.at < b.at or (a.at == b.at and a.n < b.n) end)
  for _, candidate in ipairs(found) do
    local job = jobs[candidate.job]
    if job.free > 0 then
      if #picked == limit then
        more = true
        break
      end
      job.free = job.free - 1
      picked[#picked + 1] = candidate
    end
  end
  if more then break end
end

local started = {}
if #picked > 0 then
  local own = own_key(node, epoch)
  call('ZADD', P .. 'owners', 0, node .. '\0' .. epoch)
  for _, candidate in ipairs(picked) do
    local id = candidate.member:sub(1, 16)
    call('ZREM', candidate.key, candidate.member)
    local h, rest = open(call('HGET', P .. 'x', id))
    if h and h[1] == 'pending' then
      h[1], h[2], h[3], h[4], h[6] = 'running', node, epoch, h[4] + 1, NOW
      local row = pack(h) .. rest
      call('HSET', P .. 'x', id, row)
      call('ZREM', P .. 'is:pending', id)
      call('ZADD', P .. 'is:running', 0, id)
      call('ZADD', own, 0, id)
      call('ZADD', P .. 'of:' .. candidate.job, RUNNING, id)
      local run = call('HGET', P .. 'run', candidate.job)
      started[#started + 1] = { id, row, candidate.job, jobs[candidate.job].bytes, run }
    end
  end
end

-- Due jobs, by priority, then time.
local room, due = limit - #started, {}
local deadline = NOW + hold
for _, l in ipairs(lanes) do
  local want = room - #due
  if want <= 0 then break end
  local found = {}
  for _, handler in ipairs(l[2]) do
    local key = lane('j', handler, l[1])
    local page = call('ZRANGEBYSCORE', key, '-inf', NOW, 'WITHSCORES', 'LIMIT', 0, want)
    for i = 1, #page, 2 do
      found[#found + 1] = { at = tonumber(page[i + 1]), n = #found, key = key, id = page[i] }
    end
  end
  if #l[2] > 1 then
    table.sort(found, function(a, b) return a.at < b.at or (a.at == b.at and a.n < b.n) end)
  end
  local taken, reserved = {}, {}
  for i = 1, math.min(want, #found) do
    local id, key = found[i].id, found[i].key
    due[#due + 1] = id
    taken[key] = taken[key] or {}
    table.insert(taken[key], id)
    reserved[#reserved + 1] = deadline
    reserved[#reserved + 1] = id
  end
  for key, ids in pairs(taken) do bulk('ZREM', key, ids) end
  bulk('ZADD', P .. 'reserved', reserved)
end

local calendars = call('GET', P .. 'calendars_n') or '0'
if #due == 0 then
  local more_jobs, next_at = look_ahead(lanes)
  return { 1, NOW, calendars, started, more, blocked, more_jobs, next_at }
end
local running, queued = {}, {}
for i, id in ipairs(due) do
  local key = P .. 'of:' .. id
  local open_ones = call('ZCOUNT', key, RUNNING, QUEUED)
  running[i] = open_ones > 0 and running_of(id) or 0
  queued[i] = open_ones - running[i]
end
local states, runs = get_all(P .. 'job', due), get_all(P .. 'run', due)
return { 1, NOW, calendars, started, more, blocked, false, false, due, states, runs, running, queued }
