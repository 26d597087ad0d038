-- The first half of a claim: starts pending executions, and holds due jobs for a few seconds, so that no other
-- node plans them too. A job that is held stays in its lane, with a time there that no other hold has: whoever
-- puts it elsewhere, or back, ends the hold. One that is not brought back is due again by itself.
--
-- Where there is one node only, nothing is held: its plan counts if nothing at all has moved when it is written.
-- ARGV: clock, origin, node, epoch, limit, hold, whether with definitions, number of changes at which the
-- caller knows the calendars, whether jobs must be held, handlers ...
local node, epoch = ARGV[3], tonumber(ARGV[4])
local limit, hold, with_definitions = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7] == '1'
local n = alive(node, epoch)
if not n or NOW >= n[5] then return { 0 } end

local handlers = {}
for i = 10, #ARGV do handlers[i - 9] = ARGV[i] end
local lanes = lanes_of(handlers)

-- Pending executions, by priority, then time. Those of a job that runs as often as it may are passed over.
local jobs, picked, more, blocked = {}, {}, false, false

local function job_of(id)
  if not jobs[id] then
    local bytes = call('HGET', P .. 'job', id)
    local s = state_in(bytes)
    local free = 0
    if s and not s[6] then free = s[12] - live(open_of(id)) end
    jobs[id] = { bytes = bytes, s = s, open = s and not s[6], free = free }
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
    local id, job = candidate.member:sub(1, 16), candidate.job
    call('ZREM', candidate.key, candidate.member)
    local h, rest = open(call('HGET', P .. 'x', id))
    if h and h[1] == 'pending' then
      h[1], h[2], h[3], h[4], h[6] = 'running', node, epoch, h[4] + 1, NOW
      local row = pack(h) .. rest
      call('HSET', P .. 'x', id, row)
      call('ZREM', P .. 'is:pending', id)
      call('ZADD', P .. 'is:running', 0, id)
      call('ZADD', own, 0, id)
      call('ZADD', P .. 'of:' .. job, SETTLED, id)
      set_open(job, without(open_of(job), id) .. 'r' .. id)
      -- What a claim plans for it meanwhile does not know of this one.
      ready(job, jobs[job].s)
      local run = call('HGET', P .. 'run', job)
      local definition = with_definitions and call('HGET', P .. 'definition', job)
      started[#started + 1] = { id, row, job, jobs[job].bytes, run, definition }
    end
  end
end

-- Due jobs, by priority, then time.
local room, due = limit - #started, {}
local must_hold = ARGV[9] == '1' or call('ZCARD', P .. 'leases') > 1
local token = not must_hold and 'moves ' .. (call('GET', P .. 'moves') or '') or nil
for _, l in ipairs(lanes) do
  local want = room - #due
  if want <= 0 then break end
  local held = {}
  local function take(key, id)
    -- Less than a millisecond tells the holds of one instant apart.
    due[#due + 1] = id
    if not must_hold then return end
    token = token or string.format('%d.%03d', NOW + hold, call('INCR', P .. 'holds') % 999 + 1)
    local list = held[key] or {}
    held[key] = list
    list[#list + 1] = token
    list[#list + 1] = id
  end
  if #l[2] == 1 then
    local key = lane('j', l[2][1], l[1])
    for _, id in ipairs(call('ZRANGEBYSCORE', key, '-inf', NOW, 'LIMIT', 0, want)) do take(key, id) end
  else
    local found = {}
    for _, handler in ipairs(l[2]) do
      local key = lane('j', handler, l[1])
      local page = call('ZRANGEBYSCORE', key, '-inf', NOW, 'WITHSCORES', 'LIMIT', 0, want)
      for i = 1, #page, 2 do
        found[#found + 1] = { at = tonumber(page[i + 1]), n = #found, key = key, id = page[i] }
      end
    end
    table.sort(found, function(a, b) return a.at < b.at or (a.at == b.at and a.n < b.n) end)
    for i = 1, math.min(want, #found) do take(found[i].key, found[i].id) end
  end
  for key, list in pairs(held) do bulk('ZADD', key, list) end
end

local calendars = { call('GET', P .. 'calendars_n') or '0', false }
if calendars[1] ~= ARGV[8] then calendars[2] = call('HGETALL', P .. 'calendars') end
if #due == 0 then
  local more_jobs, next_at = look_ahead(lanes)
  return { 1, NOW, calendars, started, more, blocked, more_jobs, next_at }
end
local states, runs, opens = get_all(P .. 'job', due), get_all(P .. 'run', due), get_all(P .. 'open', due)
local definitions = with_definitions and get_all(P .. 'definition', due) or {}
return { 1, NOW, calendars, started, more, blocked, token, due, states, runs, opens, definitions }
