-- The second half of a claim: writes what was planned, job by job, where the job and what of it is open are
-- as they were when it was planned.
-- ARGV: clock, origin, node, epoch, time of the plan, number of handlers, number of jobs, handlers ..., and
-- for each job: id, state before, state after, running, queued, due, fire, handler, priority, whether to
-- cancel what runs, detail of setting it aside, number of records, and for each of those: id, row, score,
-- status, due.
local node, epoch, planned_at = ARGV[3], tonumber(ARGV[4]), ARGV[5]
local n = alive(node, epoch)
if not n or NOW >= n[5] then return { 0 } end
local handlers, at = {}, 8
for i = 1, tonumber(ARGV[6]) do
  handlers[i] = ARGV[at]
  at = at + 1
end

-- First everything is read and checked.
local jobs, ids, first_slot = {}, {}, slot(1, '')
for i = 1, tonumber(ARGV[7]) do
  local records, n_records = {}, tonumber(ARGV[at + 11])
  local job = { at = at, records = records, id = ARGV[at] }
  ids[i], jobs[i] = job.id, job
  at = at + 12
  for r = 1, n_records do
    records[r] = at
    at = at + 5
  end
end
local states = #ids > 0 and get_all(P .. 'job', ids) or {}
local back = {}
for i, job in ipairs(jobs) do
  local a = job.at
  if states[i] == ARGV[a + 1] then
    local key = P .. 'of:' .. job.id
    local running, queued = tonumber(ARGV[a + 3]), tonumber(ARGV[a + 4])
    if call('ZCOUNT', key, RUNNING, QUEUED) == running + queued
      and (running + queued == 0 or running_of(job.id) == running) then
      job.won = true
      for r, p in ipairs(job.records) do
        job[r] = not find_occurrence(job.id, ARGV[p + 4], first_slot)
      end
    else
      back[#back + 1] = job
    end
  end
end

-- Then it is written.
for _, job in ipairs(back) do
  call('ZREM', P .. 'reserved', job.id)
  ready(job.id, open(ARGV[job.at + 1]))
end
local set, by_due, done, lanes, opened = {}, {}, {}, {}, {}
local rows, is, own, ended = {}, {}, {}, {}
local wins, cancelled = {}, {}
for i, job in ipairs(jobs) do
  local a, id = job.at, job.id
  if not job.won then
    wins[i] = false
  elseif ARGV[a + 10] ~= '' then
    local s = open(ARGV[a + 1])
    unfile(id, s)
    set_aside(id, s, open(ARGV[a + 2])[6], ARGV[a + 10])
    wins[i] = ''
  else
    set[#set + 1] = id
    set[#set + 1] = ARGV[a + 2]
    done[#done + 1] = id
    by_due[#by_due + 1] = ARGV[a + 5] ~= '' and ARGV[a + 5] or '+inf'
    by_due[#by_due + 1] = id
    local handler, priority = ARGV[a + 7], ARGV[a + 8]
    local key = lane('j', handler, priority)
    if ARGV[a + 6] ~= '' then
      if not lanes[key] then
        lanes[key] = {}
        open_lane(handler, priority)
      end
      table.insert(lanes[key], ARGV[a + 6])
      table.insert(lanes[key], id)
    else
      call('ZREM', key, id)
    end
    if ARGV[a + 9] == '1' then
      for _, x in ipairs(call('ZRANGEBYSCORE', P .. 'of:' .. id, RUNNING, RUNNING)) do
        local h, rest = open(call('HGET', P .. 'x', x))
        if h then
          h[5] = true
          call('HSET', P .. 'x', x, pack(h) .. rest)
          call('SADD', stop_key(h[2], h[3]), x)
          cancelled[#cancelled + 1] = x
        end
      end
    end
    local made = {}
    for r, p in ipairs(job.records) do
      made[r] = job[r] and '1' or '0'
      if job[r] then
        local x, score, status = ARGV[p], ARGV[p + 2], ARGV[p + 3]
        rows[#rows + 1] = x
        rows[#rows + 1] = ARGV[p + 1]
        is[status] = is[status] or {}
        table.insert(is[status], 0)
        table.insert(is[status], x)
        call('ZADD', P .. 'of:' .. id, score, x)
        call('ZADD', P .. 'due:' .. id, ARGV[p + 4], first_slot .. x)
        if score == '1' then
          own[#own + 1] = 0
          own[#own + 1] = x
        elseif score == '0' then
          ended[#ended + 1] = planned_at
          ended[#ended + 1] = x
        else
          call('ZADD', lane('x', handler, priority), planned_at, x .. id)
          opened[key] = opened[key] or open_lane(handler, priority) or true
        end
      end
    end
    wins[i] = table.concat(made)
  end
end
bulk('HSET', P .. 'job', set)
bulk('ZADD', P .. 'by_due', by_due)
bulk('ZREM', P .. 'reserved', done)
for key, list in pairs(lanes) do bulk('ZADD', key, list) end
bulk('HSET', P .. 'x', rows)
for status, list in pairs(is) do bulk('ZADD', P .. 'is:' .. status, list) end
bulk('ZADD', P .. 'ended', ended)
if #own > 0 then
  bulk('ZADD', own_key(node, epoch), own)
  call('ZADD', P .. 'owners', 0, node .. '\0' .. epoch)
end
local more, next_at = look_ahead(lanes_of(handlers))
return { 1, wins, cancelled, more, next_at }
