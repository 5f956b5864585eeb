-- Commits what a node did with a group's state of a partition, if it did it with the state as it is; otherwise answers
-- the state. Everything or nothing.
-- keys: 1: the state, a hash: v (its version), lineage (that it is true of), start, next, low, generation, a field for each
--          unsettled position; where there is something to say, revision (of the declaration that it was last worked with), lost, claimed (when a member last asked for something),
--          abandoned, deaths (not told yet), mourned (when they were told)  2: dead letters, a hash  3: the positions that are dead and not with their group again,
--          by when they died  4: the same, by position  5: whose turn it is, for a moment: who was late too often goes first
-- args: 1: group  2: queue  3: the version that was worked with; 'new': there is none yet  4: its lineage
--       5: start  6: next  7: low  8: generation  9: letters that died before are forgotten; '' for none
--       10: who commits  11: '1': it was late too often
--       12: how many of these follow: fields set (such as position, text); records gone (position); letters buried (position,
--       text, when); letters with their group again (position, text); letters gone (position); letters that are dead
--       again if they were with their group (1 or 0); hints (text), as `a,b,c,d,e,f,g`
-- Answers {'ok', v, dead letters}, {'stale', dead letters, fields and values}, {'gone'}: there is no state, or {'busy'}:
-- it is another one's turn.
local state, dead, died, order, turn = keys[1], keys[2], keys[3], keys[4], keys[5]
local MOURNING = 600000
local had = redis.call('HMGET', state, 'v', 'lineage', 'next', 'generation', 'deaths', 'mourned')
local version = had[1]
if (version or 'new') ~= args[3] or args[4] ~= part.lineage then
    if not version then return { 'gone' } end
    if args[11] == '1' then redis.call('SET', turn, args[10], 'NX', 'PX', 100) end
    return { 'stale', redis.call('ZCARD', died), redis.call('HGETALL', state) }
end

local first = redis.call('GET', turn)
if first == args[10] then
    redis.call('DEL', turn)
elseif first then
    return { 'busy' }
end

local counts = {}
for count in args[12]:gmatch('%d+') do counts[#counts + 1] = tonumber(count) end
local at = 13
local function take(count, width, step)
    -- Lua's stack holds some thousand values.
    local last = at + count * width - 1
    while at <= last do
        local to = math.min(at + 512 * width - 1, last)
        step(at, to)
        at = to + 1
    end
end
local function each(count, width, step)
    for _ = 1, count do
        step(unpack(args, at, at + width - 1))
        at = at + width
    end
end

if counts[1] + counts[2] + counts[3] + counts[4] + counts[5] + counts[6] > 0 or not version
    or had[2] ~= args[4] or had[3] ~= args[6] or had[4] ~= args[8] then
    -- One that begins anew isn't taken for the one that a node may still know.
    version = int(tonumber(version or part.now) + 1)
    redis.call('HSET', state, 'v', version, 'lineage', part.lineage, 'start', args[5], 'next', args[6], 'low', args[7],
        'generation', args[8])
    redis.call('SADD', GROUPS, args[1])
end
take(counts[1], 2, function(from, to) redis.call('HSET', state, unpack(args, from, to)) end)
take(counts[2], 1, function(from, to) redis.call('HDEL', state, unpack(args, from, to)) end)
local function lives(position)
    redis.call('ZREM', died, position)
    redis.call('ZREM', order, position)
end
each(counts[3], 3, function(position, letter, when)
    redis.call('HSET', dead, position, letter)
    redis.call('ZADD', died, when, position)
    redis.call('ZADD', order, position, position)
end)
local deaths = tonumber(had[5] or 0) + counts[3]
if deaths > 0 then
    local is_due = part.now - tonumber(had[6] or 0) >= MOURNING
    if is_due then
        tell('DEAD_LETTER', { group = args[1], count = deaths, dead = redis.call('ZCARD', died) })
        redis.call('HSET', state, 'deaths', '0', 'mourned', int(part.now))
    elseif counts[3] > 0 then
        redis.call('HSET', state, 'deaths', int(deaths))
    end
end
each(counts[4], 2, function(position, letter)
    redis.call('HSET', dead, position, letter)
    lives(position)
end)
each(counts[5], 1, function(position)
    redis.call('HDEL', dead, position)
    lives(position)
end)
if counts[6] > 0 and redis.call('HLEN', dead) ~= redis.call('ZCARD', died) then
    for _, position in ipairs(redis.call('HKEYS', dead)) do
        redis.call('ZADD', died, 'NX', int(part.now), position)
        redis.call('ZADD', order, position, position)
    end
end
if args[9] ~= '' then
    for _, position in ipairs(redis.call('ZRANGEBYSCORE', died, '-inf', '(' .. args[9], 'LIMIT', 0, 1000)) do
        -- One that blocks its key has a record still.
        if redis.call('HEXISTS', state, position) == 0 then
            redis.call('HDEL', dead, position)
            lives(position)
        end
    end
end
each(counts[7], 1, hint)
return { 'ok', version, redis.call('ZCARD', died) }
