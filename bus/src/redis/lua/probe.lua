#!lua
-- Tries each command that the bus's scripts use on one key, which is gone after; answers what the user may not do.
-- keys: 1: a key of the namespace. args: 1: the channel of hints
local key, channel = KEYS[1], ARGV[1]
local refused = {}
local function try(...)
    local answer = redis.pcall(...)
    if type(answer) == 'table' and answer.err and not answer.err:find('WRONGTYPE', 1, true) then
        refused[#refused + 1] = select(1, ...) .. ': ' .. answer.err
    end
end
try('UNLINK', key)
try('INFO', 'server', 'replication')
try('TIME')
try('EXISTS', key)
try('HSET', key, 'a', '1')
try('HMGET', key, 'a')
try('HGET', key, 'a')
try('HLEN', key)
try('HKEYS', key)
try('HEXISTS', key, 'a')
try('HGETALL', key)
try('HINCRBY', key, 'a', 1)
try('HDEL', key, 'b')
try('PEXPIRE', key, 60000)
try('UNLINK', key)
try('XADD', key, '1-1', 'a', '1')
try('XREVRANGE', key, '+', '-', 'COUNT', 1)
try('XRANGE', key, '-', '+', 'COUNT', 1)
try('XTRIM', key, 'MINID', '1')
try('UNLINK', key)
try('ZADD', key, 1, 'a')
try('ZRANGEBYSCORE', key, '-inf', '+inf', 'LIMIT', 0, 1)
try('ZSCORE', key, 'a')
try('ZCARD', key)
try('ZREM', key, 'a')
try('UNLINK', key)
try('RPUSH', key, 'a')
try('LINDEX', key, 0)
try('LRANGE', key, 0, 0)
try('LREM', key, 0, 'b')
try('LTRIM', key, 0, 0)
try('LPOP', key)
try('SADD', key, 'a')
try('SMEMBERS', key)
try('UNLINK', key)
try('SET', key, '1', 'PX', 1000)
try('GET', key)
try('DEL', key)
try('UNLINK', key)
try('PUBLISH', channel, 'probe')
return refused
