-- By hand: takes due jobs, moves each on by a day, and writes a running execution of each, in the keys and
-- with the indexes that the store has.
-- KEYS: prefix. ARGV: now, limit, first id (a number), row of the execution but for the job's id.
local P, now = KEYS[1], ARGV[1]
local lane = P .. 'lane:j:0:bench'
local jobs = redis.call('ZRANGEBYSCORE', lane, '-inf', now, 'LIMIT', 0, ARGV[2])
if #jobs == 0 then return jobs end
local states = redis.call('HMGET', P .. 'job', unpack(jobs))
local set, ready, rows, zeros, open = {}, {}, {}, {}, {}
local first, next_due = tonumber(ARGV[3]), string.format('%d', now + 86400000)
for i, job in ipairs(jobs) do
  local id = struct.pack('>I8I8', first + i, 7)
  set[2 * i - 1], set[2 * i] = job, states[i]
  ready[2 * i - 1], ready[2 * i] = next_due, job
  rows[2 * i - 1], rows[2 * i] = id, ARGV[4] .. job
  zeros[2 * i - 1], zeros[2 * i] = '0', id
  open[2 * i - 1], open[2 * i] = job, 'r' .. id
  redis.call('ZADD', P .. 'of:' .. job, '-9000000000000000', id, now, '\0\0\0\1\0' .. id)
end
redis.call('HSET', P .. 'job', unpack(set))
redis.call('ZADD', lane, unpack(ready))
redis.call('ZADD', P .. 'by_due', unpack(ready))
redis.call('HSET', P .. 'x', unpack(rows))
redis.call('HSET', P .. 'open', unpack(open))
redis.call('ZADD', P .. 'is:running', unpack(zeros))
redis.call('ZADD', P .. 'own:node', unpack(zeros))
return jobs
