-- Makes running executions of this node pending again, which it can't run since it can't read their job.
-- ARGV: clock, origin, node, epoch, ids ...
local node, epoch = ARGV[3], tonumber(ARGV[4])
for i = 5, #ARGV do
  local id = ARGV[i]
  local h, rest = open(call('HGET', P .. 'x', id))
  if h and h[1] == 'running' and h[2] == node and h[3] == epoch then
    local k = open(rest)
    call('ZREM', P .. 'is:running', id)
    call('ZREM', own_key(node, epoch), id)
    h[1], h[2], h[3], h[5], h[6] = 'pending', false, 0, false, false
    call('HSET', P .. 'x', id, pack(h) .. rest)
    call('ZADD', P .. 'is:pending', 0, id)
    local score = pending_score(k)
    call('ZADD', P .. 'of:' .. k[1], score, id)
    close(k[1], id)
    if score == QUEUED then
      add_open(k[1], 'q', id)
      local s = state_of(k[1])
      if s then ready(k[1], s) end
    end
    open_lane(h[10], h[11])
    call('ZADD', lane('x', h[10], h[11]), h[12], id .. k[1])
  end
end
return 1
