-- Takes in what a node tells of who attends, and records what follows from that and from the time.
-- Of each scope (a room; '': the bus) there is a hash, a user to `<since> <until> <seen> <connection>@<node>;…`: those who
-- are connected, until when lost connections count (0: none does), when the last one ended. Someone is in it as long as
-- one is connected or counts. Times of it are those of a clock of its own: it counts no more between two calls than LEAP.
-- keys: 1: a hash, a node to when it was last heard, and `=clock` and `=seen`, the clock and the time when it was so; 2: a
--       sorted set of `<scope> <user>` by until when lost connections count; 3: a set, the scopes with somebody in them;
--       4: what a scope's hash begins with, 5: a node's set of `<connection> <scope> <user>`
-- args: 1: the queue; 2: the most events of the dedupe window; 3: how far it reaches back, in milliseconds; 4: '1': each
--       key's last event is known; 5: the queue's shape, as the node knows it; 6: the node; 7: the time (RFC 3339);
--       8, 9: an arrival and a departure as they are stored, to be filled in; 10, 11: what digests of events and of keys
--       are made in (16 bytes); 12: the source of the events; 13: after which silence a node is gone, 14: how long lost
--       connections count, 15: LEAP, in milliseconds; 16: connections and users that are looked at; 17: the most connections
--       of a user; 18: the most users of a room; 19: the time that silence ago (RFC 3339); then of each step `e` (enters), `c`
--       (is cut) or `l` (leaves), the scope, the user, the connection.
-- Answers 0 if the queue has another shape; else 1 if what the node told counts still, 1 if there is more to look at, how many users
-- attend the bus, how many rooms have somebody in them, how many arrived and departed; then of each step 0, 1: too many connections,
-- 2: too many users.
if part.partitions and part.partitions ~= args[5] then return 0 end
opens(args[1], args[2], args[3], args[4] == '1')
local HEARD, DUE, SCOPES, IN, OF = unpack(keys, 1, 5)
local node, moment, source = args[6], args[7], args[12]
local SILENCE, GRACE, LEAP, PIECE = tonumber(args[13]), tonumber(args[14]), tonumber(args[15]), tonumber(args[16])
local MOST_CONNECTIONS, MOST_USERS = tonumber(args[17]), tonumber(args[18])
local STEPS = 20

local had = redis.call('HMGET', HEARD, '=clock', '=seen', node)
-- A clock that somebody deleted goes on from where what counts still ends within its time.
local clock = had[1] or (redis.call('ZRANGE', DUE, -1, -1, 'WITHSCORES')[2] or GRACE) - GRACE
clock = tonumber(clock) + math.min(math.max(part.now - tonumber(had[2] or part.now), 0), LEAP)
-- What a node told that was silent for too long is taken back, whoever finds it, or was in part.
local was_heard = had[3] and clock - tonumber(had[3]) <= SILENCE
redis.call('HSET', HEARD, '=clock', int(clock), '=seen', int(part.now), node, int(clock))

-- A UUID of version 5, as bytes.
local function digest(within, text)
    local bytes = redis.sha1hex(within .. text):sub(1, 32):gsub('%x%x', function(hex) return string.char(tonumber(hex, 16)) end)
    local version, variant = bytes:byte(7) % 16 + 80, bytes:byte(9) % 64 + 128
    return bytes:sub(1, 6) .. string.char(version) .. bytes:sub(8, 8) .. string.char(variant) .. bytes:sub(10)
end

local arrived, departed = 0, 0
local function happened(template, who, reason)
    local id = part.lineage .. '-' .. int(part.seq + 1)
    local event = template:gsub('@(%u+)@', {
        ID = id, TIME = moment, USER = cjson.encode(who.user):sub(2, -2), ROOM = who.scope, SINCE = who.since,
        SEEN = who.seen, REASON = reason,
    })
    local key = log.view and digest(args[11], who.scope ~= '' and who.scope or who.user)
    record(log.reach > 0 and digest(args[10], source .. '\0' .. id) or '', key, event)
end

-- What is known of a user in a scope.
local known = {}
local function of(scope, user)
    local name = scope .. ' ' .. user
    if not known[name] then
        local who = { name = name, scope = scope, user = user, lasts = 0, seats = '' }
        local stored = redis.call('HGET', IN .. scope, user)
        if stored then
            who.since, who.lasts, who.seen, who.seats = stored:match('^(%S+) (%d+) (%S+) (.*)$')
            who.lasts = tonumber(who.lasts)
        end
        known[name] = who
    end
    return known[name]
end

local function store(who)
    redis.call('HSET', IN .. who.scope, who.user,
        who.since .. ' ' .. int(who.lasts) .. ' ' .. who.seen .. ' ' .. who.seats)
end

local function departs(who, reason)
    redis.call('HDEL', IN .. who.scope, who.user)
    if redis.call('EXISTS', IN .. who.scope) == 0 then redis.call('SREM', SCOPES, who.scope) end
    departed = departed + 1
    happened(args[9], who, reason)
    who.since, who.lasts, who.seats = nil, 0, ''
end

-- Where a seat begins and ends that reads, or begins, so.
local function seat_of(who, text)
    local first = (';' .. who.seats):find(';' .. text, 1, true)
    return first, first and who.seats:find(';', first, true)
end

-- Where a connection of a node stands. Of this node's also under the name that it had in a former lineage.
local former = node:match('^.*%.')
local function place(who, connection, its)
    local first, last = seat_of(who, connection .. '@' .. its .. ';')
    if not first and its == node and former then return seat_of(who, connection .. '@' .. former) end
    return first, last
end

local function enters(scope, user, connection)
    local who = of(scope, user)
    local seat = connection .. '@' .. node .. ';'
    if who.since and seat_of(who, seat) then return 0 end
    local first, last = place(who, connection, node)
    if first then
        who.seats = who.seats:sub(1, first - 1) .. who.seats:sub(last + 1)
    elseif who.since then
        local _, count = who.seats:gsub(';', '')
        if count >= MOST_CONNECTIONS then return 1 end
    else
        if scope ~= '' and redis.call('HLEN', IN .. scope) >= MOST_USERS then return 2 end
        who.since, who.seen = moment, '-'
        redis.call('SADD', SCOPES, scope)
        arrived = arrived + 1
        happened(args[8], who)
    end
    who.seats = who.seats .. seat
    store(who)
    return 0
end

-- Takes away a connection of a node, which ended at a time (RFC 3339); nil: there is none.
local function without(scope, user, connection, its, ended)
    local who = of(scope, user)
    local first, last = place(who, connection, its)
    if not first then return nil end
    who.seats = who.seats:sub(1, first - 1) .. who.seats:sub(last + 1)
    if who.seen == '-' or who.seen < ended then who.seen = ended end
    return who
end

-- lost: when, by the clock.
local function is_cut(scope, user, connection, its, lost, ended)
    local who = without(scope, user, connection, its, ended)
    if not who then return end
    who.lasts = math.max(who.lasts, lost + GRACE)
    store(who)
    redis.call('ZADD', DUE, int(who.lasts), who.name)
end

local function leaves(scope, user, connection)
    local who = without(scope, user, connection, node, moment)
    if not who then return end
    if who.seats ~= '' or who.lasts > clock then return store(who) end
    redis.call('ZREM', DUE, who.name)
    departs(who, 'bye')
end

local outcomes, here, gone = {}, {}, {}
for at = STEPS, #args, 4 do
    local what, scope, user, connection = unpack(args, at, at + 3)
    local seat, outcome = connection .. ' ' .. scope .. ' ' .. user, 0
    if what == 'e' then
        outcome = enters(scope, user, connection)
        if outcome == 0 then here[#here + 1] = seat end
    else
        if what == 'c' then is_cut(scope, user, connection, node, clock, moment) else leaves(scope, user, connection) end
        gone[#gone + 1] = seat
    end
    outcomes[#outcomes + 1] = outcome
end
if #here > 0 then redis.call('SADD', OF .. node, unpack(here)) end
if #gone > 0 then redis.call('SREM', OF .. node, unpack(gone)) end

local more, left = 0, PIECE
local heard = redis.call('HGETALL', HEARD)
for i = 1, #heard, 2 do
    local other, last = heard[i], tonumber(heard[i + 1])
    if other:sub(1, 1) ~= '=' and clock - last > SILENCE then
        local seats = left > 0 and redis.call('SPOP', OF .. other, int(left)) or {}
        for _, seat in ipairs(seats) do
            local connection, scope, user = seat:match('^(%S+) (%S*) (.*)$')
            is_cut(scope, user, connection, other, last, args[19])
        end
        left = left - #seats
        if redis.call('EXISTS', OF .. other) == 0 then redis.call('HDEL', HEARD, other) else more = 1 end
    end
end

local due = redis.call('ZRANGEBYSCORE', DUE, '-inf', int(clock), 'LIMIT', 0, PIECE)
for _, name in ipairs(due) do
    local who = of(name:match('^(%S*) (.*)$'))
    redis.call('ZREM', DUE, name)
    if who.since then
        who.lasts = 0
        if who.seats == '' then departs(who, 'lost') else store(who) end
    end
end
if #due == PIECE then more = 1 end

append(#digests > 0 and { 'partitions', args[5] } or {})
local users, rooms = redis.call('HLEN', IN), redis.call('SCARD', SCOPES)
return { was_heard and 1 or 0, more, users, rooms, arrived, departed, unpack(outcomes) }
