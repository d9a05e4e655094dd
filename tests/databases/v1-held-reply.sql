BEGIN TRANSACTION;
CREATE TABLE campaigns (
    name TEXT PRIMARY KEY,
    created_at TEXT NOT NULL,
    seed INTEGER,
    paused_because TEXT
) WITHOUT ROWID;
INSERT INTO "campaigns" VALUES('fall','2025-11-09 18:00:00',3,'paused by ana until 11/12 10:00 AM');
INSERT INTO "campaigns" VALUES('spring','2025-11-09 18:00:00',3,NULL);
CREATE TABLE events (                        -- append-only
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    actor TEXT NOT NULL,
    scheduled_message_id INTEGER,
    event TEXT NOT NULL,
    detail TEXT NOT NULL DEFAULT ''
);
INSERT INTO "events" VALUES(1,'2025-11-09 18:00:00','ana',1,'added','scheduled for 2025-11-09 18:01:00');
INSERT INTO "events" VALUES(2,'2025-11-09 18:00:00','ana',2,'added','scheduled for 2025-11-09 18:05:43');
INSERT INTO "events" VALUES(3,'2025-11-09 18:00:00','ana',3,'added','scheduled for 2025-11-09 18:21:36');
INSERT INTO "events" VALUES(4,'2025-11-09 18:00:00','ana',4,'added','scheduled for 2025-11-09 18:28:07');
INSERT INTO "events" VALUES(5,'2025-11-09 18:00:00','ana',5,'added','scheduled for 2025-11-09 18:35:06');
INSERT INTO "events" VALUES(6,'2025-11-09 18:00:00','ana',6,'added','scheduled for 2025-11-09 18:53:42');
INSERT INTO "events" VALUES(7,'2025-11-09 18:00:00','ana',7,'added','scheduled for 2025-11-09 19:00:18');
INSERT INTO "events" VALUES(8,'2025-11-09 18:00:00','ana',8,'added','scheduled for 2025-11-09 19:06:19');
INSERT INTO "events" VALUES(9,'2025-11-09 18:00:00','ana',9,'added','scheduled for 2025-11-09 19:26:25');
INSERT INTO "events" VALUES(10,'2025-11-09 18:00:00','ana',10,'added','scheduled for 2025-11-09 19:31:50');
INSERT INTO "events" VALUES(11,'2025-11-09 18:00:00','ana',11,'added','scheduled for 2025-11-09 19:37:59');
INSERT INTO "events" VALUES(12,'2025-11-09 18:00:00','ana',12,'added','scheduled for 2025-11-09 19:44:23');
INSERT INTO "events" VALUES(13,'2025-11-09 18:00:00','ana',13,'added','scheduled for 2025-11-12 18:01:00');
INSERT INTO "events" VALUES(14,'2025-11-09 18:00:00','ana',14,'added','scheduled for 2025-11-12 18:05:43');
INSERT INTO "events" VALUES(15,'2025-11-09 18:00:00','ana',15,'added','scheduled for 2025-11-12 18:21:36');
INSERT INTO "events" VALUES(16,'2025-11-09 18:01:02','daemon',1,'sent','was scheduled');
INSERT INTO "events" VALUES(17,'2025-11-09 18:05:45','daemon',2,'sent','was scheduled');
INSERT INTO "events" VALUES(18,'2025-11-09 18:16:40','daemon',8,'held','their reply may mean stop');
INSERT INTO "events" VALUES(19,'2025-11-09 18:18:20','daemon',NULL,'opted out','+12135552401: words');
INSERT INTO "events" VALUES(20,'2025-11-09 18:19:10','daemon',10,'cancelled','was scheduled the recipient said stop');
INSERT INTO "events" VALUES(21,'2025-11-09 18:19:10','daemon',NULL,'opted out','+12135552409: keyword');
INSERT INTO "events" VALUES(22,'2025-11-09 18:21:39','daemon',3,'sent','was scheduled');
INSERT INTO "events" VALUES(23,'2025-11-09 18:28:09','daemon',4,'sent','was scheduled');
INSERT INTO "events" VALUES(24,'2026-11-29 20:21:05','sql',16,'added','scheduled for 2025-11-20 18:00:00');
CREATE TABLE inbound (
    id INTEGER PRIMARY KEY,
    received_at TEXT NOT NULL,
    sent_at TEXT,
    sender TEXT NOT NULL,
    body TEXT,                               -- NULL: not readable
    tpdu TEXT NOT NULL,
    request TEXT NOT NULL,
    read_at TEXT,
    answers INTEGER                          -- the row that a reply, no command, came after
);
INSERT INTO "inbound" VALUES(1,'2025-11-09 18:16:40','2025-11-09 18:16:40','+12135552407','is this spam?','00040B912131552504F70008521190816104001A00690073002000740068006900730020007300700061006D003F','perhaps stop',NULL,NULL);
INSERT INTO "inbound" VALUES(2,'2025-11-09 18:18:20','2025-11-09 18:18:20','+12135552401','please stop texting me','00040B912131552504F10008521190818102002C0070006C0065006100730065002000730074006F0070002000740065007800740069006E00670020006D0065','stop',NULL,NULL);
INSERT INTO "inbound" VALUES(3,'2025-11-09 18:19:10','2025-11-09 18:19:10','+12135552409','STOP','00040B912131552504F90008521190819101000800530054004F0050','stop',NULL,NULL);
INSERT INTO "inbound" VALUES(4,'2025-11-09 18:20:00','2025-11-09 18:20:00','+12135552400','Thanks!','00040B912131552504F00008521190810200000E005400680061006E006B00730021','nothing',NULL,1);
CREATE TABLE inbound_parts (                 -- of long texts
    id INTEGER PRIMARY KEY,
    received_at TEXT NOT NULL,
    sender TEXT NOT NULL,
    sent_at TEXT NOT NULL,
    reference INTEGER NOT NULL,
    total INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    tpdu TEXT NOT NULL,
    joined INTEGER NOT NULL DEFAULT 0,       -- 1: its text stands in inbound
    UNIQUE (sender, sent_at, reference, total, sequence, tpdu)
);
INSERT INTO "inbound_parts" VALUES(1,'2025-11-09 18:20:01','+12135552402','2025-11-09 18:20:01',9,2,1,'00440B912131552504F2000852119081021000CE050003090201006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020006C006F006E00670020',0);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,    -- its last eight bits are the concatenation reference
    scheduled_message_id INTEGER REFERENCES scheduled_messages (id),
    kind TEXT                                -- of a text of the box itself
        CHECK (kind IN ('confirmation', 'help', 'alert', 'answer')),
    phone_number TEXT NOT NULL,
    bubble INTEGER NOT NULL DEFAULT 1,
    body TEXT NOT NULL,
    status TEXT NOT NULL DEFAULT 'queued' CHECK (status IN
        ('queued', 'sending', 'sent', 'failed', 'cancelled', 'unconfirmed')),
    created_at TEXT NOT NULL,
    sent_at TEXT,
    delivered_at TEXT,
    error_message TEXT
);
INSERT INTO "messages" VALUES(1,1,NULL,'+12135552400',1,'Hi 0!','sent','2025-11-09 18:01:00','2025-11-09 18:01:00','2025-11-09 18:01:00',NULL);
INSERT INTO "messages" VALUES(2,1,NULL,'+12135552400',2,'See you on Friday?','sent','2025-11-09 18:01:00','2025-11-09 18:01:02',NULL,NULL);
INSERT INTO "messages" VALUES(3,2,NULL,'+12135552401',1,'Hi 1!','sent','2025-11-09 18:05:43','2025-11-09 18:05:43',NULL,NULL);
INSERT INTO "messages" VALUES(4,2,NULL,'+12135552401',2,'See you on Friday?','sent','2025-11-09 18:05:43','2025-11-09 18:05:45',NULL,NULL);
INSERT INTO "messages" VALUES(5,NULL,'confirmation','+12135552401',1,'Done: you are off our list and will not hear from us again.','sent','2025-11-09 18:18:20','2025-11-09 18:18:20',NULL,NULL);
INSERT INTO "messages" VALUES(6,NULL,'confirmation','+12135552409',1,'Done: you are off our list and will not hear from us again.','sent','2025-11-09 18:19:10','2025-11-09 18:19:10',NULL,NULL);
INSERT INTO "messages" VALUES(7,3,NULL,'+12135552402',1,'Hi 2!','sent','2025-11-09 18:21:36','2025-11-09 18:21:36',NULL,NULL);
INSERT INTO "messages" VALUES(8,3,NULL,'+12135552402',2,'See you on Friday?','sent','2025-11-09 18:21:36','2025-11-09 18:21:39',NULL,NULL);
INSERT INTO "messages" VALUES(9,4,NULL,'+12135552403',1,'Hi 3!','sent','2025-11-09 18:28:07','2025-11-09 18:28:07',NULL,NULL);
INSERT INTO "messages" VALUES(10,4,NULL,'+12135552403',2,'See you on Friday?','sent','2025-11-09 18:28:07','2025-11-09 18:28:09',NULL,NULL);
CREATE TABLE opt_outs (
    phone_number TEXT PRIMARY KEY
        CONSTRAINT "phone_number is + and 8 to 15 digits, like +12135551234"
        CHECK (phone_number GLOB '+[1-9]*' AND length(phone_number) BETWEEN 9 AND 16
            AND substr(phone_number, 2) NOT GLOB '*[^0-9]*'),
    at TEXT NOT NULL DEFAULT (datetime('now')),
    words TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    tier TEXT NOT NULL DEFAULT 'operator'    -- START lifts a keyword's, and no other
        CHECK (tier IN ('keyword', 'words', 'operator', 'import')),
    campaign TEXT NOT NULL DEFAULT '',       -- of the last message before it
    actor TEXT                               -- the writer's signature, moved to events at once
) WITHOUT ROWID;
INSERT INTO "opt_outs" VALUES('+12135552401','2025-11-09 18:18:20','please stop texting me','','words','spring',NULL);
INSERT INTO "opt_outs" VALUES('+12135552409','2025-11-09 18:19:10','STOP','','keyword','',NULL);
CREATE TABLE reports (                       -- the network's status reports
    id INTEGER PRIMARY KEY,
    received_at TEXT NOT NULL,
    phone_number TEXT NOT NULL,
    message_reference INTEGER NOT NULL,
    delivery TEXT NOT NULL,
    words TEXT NOT NULL,
    sent_at TEXT NOT NULL,
    discharged_at TEXT NOT NULL,
    tpdu TEXT NOT NULL UNIQUE,
    segment_id INTEGER REFERENCES segments (id) ON DELETE SET NULL
);
INSERT INTO "reports" VALUES(1,'2025-11-09 18:20:50','+12135552400',1,'delivered','','2025-11-09 18:01:00','2025-11-09 18:01:00','0006010B912131552504F0521190811000005211908110000000',1);
CREATE TABLE scheduled_messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    phone_number TEXT NOT NULL,
    customer_name TEXT NOT NULL DEFAULT '',
    message_content TEXT NOT NULL,
    scheduled_for TEXT NOT NULL,             -- UTC
    status TEXT NOT NULL DEFAULT 'scheduled'
        CHECK (status IN ('scheduled', 'sent', 'cancelled', 'failed')),
    campaign_message_id TEXT,
    campaign_name TEXT NOT NULL DEFAULT '',
    sent_at TEXT,
    error_message TEXT,
    created_at TEXT NOT NULL DEFAULT (datetime('now')),
    updated_at TEXT NOT NULL DEFAULT (datetime('now')),
    held_because TEXT,                       -- NULL: free to go
    anyway INTEGER NOT NULL DEFAULT 0 CHECK (anyway IN (0, 1)),
    attempts INTEGER NOT NULL DEFAULT 0      -- passing refusals so far
        CHECK (typeof(attempts) = 'integer'),
    delivery TEXT CHECK (delivery IN ('delivered', 'failed', 'expired')),  -- NULL: not known
    timezone TEXT NOT NULL DEFAULT '',
    until TEXT,                              -- UTC; not sent after it; NULL: no such end
    consent_at TEXT NOT NULL DEFAULT '',
    consent_source TEXT NOT NULL DEFAULT '',
    actor TEXT,                              -- the writer's signature, moved to events at once
    CONSTRAINT "a text is no blob: CAST it AS TEXT"
    CHECK ('blob' NOT IN (typeof(phone_number), typeof(customer_name), typeof(message_content),
        typeof(scheduled_for), typeof(campaign_message_id), typeof(campaign_name),
        typeof(error_message), typeof(held_because)))
);
INSERT INTO "scheduled_messages" VALUES(1,'+12135552400','Person 0','Hi 0! [BUBBLE] See you on Friday?','2025-11-09 18:01:00','sent','2','spring','2025-11-09 18:01:02',NULL,'2025-11-09 18:00:00','2025-11-09 18:20:50',NULL,0,0,NULL,'',NULL,'2025-01-02','',NULL);
INSERT INTO "scheduled_messages" VALUES(2,'+12135552401','Person 1','Hi 1! [BUBBLE] See you on Friday?','2025-11-09 18:05:43','sent','3','spring','2025-11-09 18:05:45',NULL,'2025-11-09 18:00:00','2025-11-09 18:05:45',NULL,0,0,NULL,'',NULL,'2025-01-02','',NULL);
INSERT INTO "scheduled_messages" VALUES(3,'+12135552402','Person 2','Hi 2! [BUBBLE] See you on Friday?','2025-11-09 18:21:36','sent','4','spring','2025-11-09 18:21:39',NULL,'2025-11-09 18:00:00','2025-11-09 18:21:39',NULL,0,0,NULL,'',NULL,'2025-01-02','',NULL);
INSERT INTO "scheduled_messages" VALUES(4,'+12135552403','Person 3','Hi 3! [BUBBLE] See you on Friday?','2025-11-09 18:28:07','sent','5','spring','2025-11-09 18:28:09',NULL,'2025-11-09 18:00:00','2025-11-09 18:28:09',NULL,0,0,NULL,'',NULL,'2025-01-02','',NULL);
INSERT INTO "scheduled_messages" VALUES(5,'+12135552404','Person 4','Hi 4! [BUBBLE] See you on Friday?','2025-11-09 18:35:06','scheduled','6','spring',NULL,NULL,'2025-11-09 18:00:00','2025-11-09 18:00:00',NULL,0,0,NULL,'',NULL,'2025-01-02','',NULL);
INSERT INTO "scheduled_messages" VALUES(6,'+12135552405','Person 5','Hi 5! [BUBBLE] See you on Friday?','2025-11-09 18:53:42','scheduled','7','spring',NULL,NULL,'2025-11-09 18:00:00','2025-11-09 18:00:00',NULL,0,0,NULL,'',NULL,'2025-01-02','',NULL);
INSERT INTO "scheduled_messages" VALUES(7,'+12135552406','Person 6','Hi 6! [BUBBLE] See you on Friday?','2025-11-09 19:00:18','scheduled','8','spring',NULL,NULL,'2025-11-09 18:00:00','2025-11-09 18:00:00',NULL,0,0,NULL,'',NULL,'2025-01-02','',NULL);
INSERT INTO "scheduled_messages" VALUES(8,'+12135552407','Person 7','Hi 7! [BUBBLE] See you on Friday?','2025-11-09 19:06:19','scheduled','9','spring',NULL,NULL,'2025-11-09 18:00:00','2025-11-09 18:16:40','their reply may mean stop',0,0,NULL,'',NULL,'2025-01-02','',NULL);
INSERT INTO "scheduled_messages" VALUES(9,'+12135552408','Person 8','Hi 8! [BUBBLE] See you on Friday?','2025-11-09 19:26:25','scheduled','10','spring',NULL,NULL,'2025-11-09 18:00:00','2025-11-09 18:00:00',NULL,0,0,NULL,'',NULL,'2025-01-02','',NULL);
INSERT INTO "scheduled_messages" VALUES(10,'+12135552409','Person 9','Hi 9! [BUBBLE] See you on Friday?','2025-11-09 19:31:50','cancelled','11','spring',NULL,'the recipient said stop','2025-11-09 18:00:00','2025-11-09 18:19:10',NULL,0,0,NULL,'',NULL,'2025-01-02','',NULL);
INSERT INTO "scheduled_messages" VALUES(11,'+12135552410','Person 10','Hi 10! [BUBBLE] See you on Friday?','2025-11-09 19:37:59','scheduled','12','spring',NULL,NULL,'2025-11-09 18:00:00','2025-11-09 18:00:00',NULL,0,0,NULL,'',NULL,'2025-01-02','',NULL);
INSERT INTO "scheduled_messages" VALUES(12,'+12135552411','Person 11','Hi 11! [BUBBLE] See you on Friday?','2025-11-09 19:44:23','scheduled','13','spring',NULL,NULL,'2025-11-09 18:00:00','2025-11-09 18:00:00',NULL,0,0,NULL,'',NULL,'2025-01-02','',NULL);
INSERT INTO "scheduled_messages" VALUES(13,'+12135552500','Other 0','Hello there','2025-11-12 18:01:00','scheduled','2','fall',NULL,NULL,'2025-11-09 18:00:00','2025-11-09 18:00:00',NULL,0,0,NULL,'',NULL,'2025-01-02','',NULL);
INSERT INTO "scheduled_messages" VALUES(14,'+12135552501','Other 1','Hello there','2025-11-12 18:05:43','scheduled','3','fall',NULL,NULL,'2025-11-09 18:00:00','2025-11-09 18:00:00',NULL,0,0,NULL,'',NULL,'2025-01-02','',NULL);
INSERT INTO "scheduled_messages" VALUES(15,'+12135552502','Other 2','Hello there','2025-11-12 18:21:36','scheduled','4','fall',NULL,NULL,'2025-11-09 18:00:00','2025-11-09 18:00:00',NULL,0,0,NULL,'',NULL,'2025-01-02','',NULL);
INSERT INTO "scheduled_messages" VALUES(16,'+12135552600','','by hand','2025-11-20 18:00:00','scheduled',NULL,'',NULL,NULL,'2026-11-29 20:21:05','2026-11-29 20:21:05','ask Ana first',0,0,NULL,'',NULL,'','',NULL);
CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    message_id INTEGER NOT NULL REFERENCES messages (id),
    sequence INTEGER NOT NULL,
    total INTEGER NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('sending', 'sent', 'failed', 'unconfirmed')),
    message_reference INTEGER,               -- TP-MR as the modem gave it
    reference_before INTEGER,                -- the SIM's last TP-MR before this one; NULL: unknown
    submitted_at TEXT NOT NULL,
    answered_at TEXT,
    delivered_at TEXT,
    delivery TEXT,                           -- the last word of its status reports
    error_message TEXT,
    UNIQUE (message_id, sequence)
);
INSERT INTO "segments" VALUES(1,1,1,1,'sent',1,NULL,'2025-11-09 18:01:00','2025-11-09 18:01:00','2025-11-09 18:01:00','delivered',NULL);
INSERT INTO "segments" VALUES(2,2,1,1,'sent',2,1,'2025-11-09 18:01:02','2025-11-09 18:01:02',NULL,NULL,NULL);
INSERT INTO "segments" VALUES(3,3,1,1,'sent',3,2,'2025-11-09 18:05:43','2025-11-09 18:05:43',NULL,NULL,NULL);
INSERT INTO "segments" VALUES(4,4,1,1,'sent',4,3,'2025-11-09 18:05:45','2025-11-09 18:05:45',NULL,NULL,NULL);
INSERT INTO "segments" VALUES(5,5,1,1,'sent',5,4,'2025-11-09 18:18:20','2025-11-09 18:18:20',NULL,NULL,NULL);
INSERT INTO "segments" VALUES(6,6,1,1,'sent',6,5,'2025-11-09 18:19:10','2025-11-09 18:19:10',NULL,NULL,NULL);
INSERT INTO "segments" VALUES(7,7,1,1,'sent',7,6,'2025-11-09 18:21:36','2025-11-09 18:21:36',NULL,NULL,NULL);
INSERT INTO "segments" VALUES(8,8,1,1,'sent',8,7,'2025-11-09 18:21:39','2025-11-09 18:21:39',NULL,NULL,NULL);
INSERT INTO "segments" VALUES(9,9,1,1,'sent',9,8,'2025-11-09 18:28:07','2025-11-09 18:28:07',NULL,NULL,NULL);
INSERT INTO "segments" VALUES(10,10,1,1,'sent',10,9,'2025-11-09 18:28:09','2025-11-09 18:28:09',NULL,NULL,NULL);
CREATE TABLE state (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "state" VALUES('hours','America/Los_Angeles 540-1200 [0, 1, 2, 3, 4, 5, 6] [] 480-1260 False');
INSERT INTO "state" VALUES('iccid','8901260000000000017');
INSERT INTO "state" VALUES('modem_imei','867584030000017');
INSERT INTO "state" VALUES('paused_until fall','2025-11-11 18:00:00');
INSERT INTO "state" VALUES('power_mark','0db3317c-2f6e-478b-9e68-f105b0ba4427 3528');
INSERT INTO "state" VALUES('reference 867584030000017 8901260000000000017','follows');
INSERT INTO "state" VALUES('trusted_boot','0db3317c-2f6e-478b-9e68-f105b0ba4427');
CREATE INDEX rows_due ON scheduled_messages (scheduled_for, id)
    WHERE status = 'scheduled' AND held_because IS NULL;
CREATE INDEX rows_due_by_campaign ON scheduled_messages (campaign_name, scheduled_for, id)
    WHERE status = 'scheduled' AND held_because IS NULL;
CREATE INDEX rows_by_status ON scheduled_messages (status, delivery);
CREATE INDEX rows_sent ON scheduled_messages (sent_at) WHERE status = 'sent';
CREATE INDEX rows_by_number ON scheduled_messages (phone_number);
CREATE INDEX rows_by_campaign ON scheduled_messages (campaign_name, status);
CREATE INDEX rows_held ON scheduled_messages (held_because)
    WHERE status = 'scheduled' AND held_because IS NOT NULL;
CREATE INDEX bubbles_by_row ON messages (scheduled_message_id);
CREATE INDEX bubbles_open ON messages (scheduled_message_id)
    WHERE status IN ('queued', 'sending');
CREATE INDEX bubbles_unconfirmed ON messages (scheduled_message_id) WHERE status = 'unconfirmed';
CREATE INDEX answers_by_number ON messages (phone_number) WHERE kind IS NOT NULL;
CREATE INDEX segments_open ON segments (message_id) WHERE status = 'sending';
CREATE INDEX segments_by_reference ON segments (message_reference, submitted_at);
CREATE UNIQUE INDEX inbound_once ON inbound (sender, sent_at, coalesce(body, tpdu))
    WHERE tpdu <> '';
CREATE INDEX inbound_unread ON inbound (id) WHERE read_at IS NULL;
CREATE INDEX parts_waiting ON inbound_parts (sender, reference, total) WHERE joined = 0;
CREATE INDEX reports_unmatched ON reports (received_at) WHERE segment_id IS NULL;
CREATE INDEX reports_by_segment ON reports (segment_id);
CREATE INDEX events_by_row ON events (scheduled_message_id);
CREATE TRIGGER events_keep BEFORE UPDATE ON events
BEGIN SELECT raise(ABORT, 'events is the audit: it is only added to'); END;
CREATE TRIGGER events_stay BEFORE DELETE ON events
BEGIN SELECT raise(ABORT, 'events is the audit: it is only added to'); END;
CREATE TRIGGER scheduled_for_checked_insert BEFORE INSERT ON scheduled_messages
WHEN  (
    coalesce(datetime(NEW.scheduled_for, '+0 days') NOT BETWEEN '2020' AND '2100', 1)
    OR NEW.scheduled_for GLOB '????-??-??*'
    AND date(substr(NEW.scheduled_for, 1, 10), '+0 days') IS NOT substr(NEW.scheduled_for, 1, 10))
BEGIN SELECT raise(ABORT,
    'scheduled_for is not a time of 2020 to 2099: write UTC as YYYY-MM-DD HH:MM:SS'); END;
CREATE TRIGGER scheduled_for_normal_insert AFTER INSERT ON scheduled_messages
WHEN NEW.scheduled_for IS NOT datetime(NEW.scheduled_for, '+0 days')
BEGIN
    UPDATE scheduled_messages SET scheduled_for = datetime(NEW.scheduled_for, '+0 days') WHERE id = NEW.id;
END;
CREATE TRIGGER scheduled_for_checked_update BEFORE UPDATE OF scheduled_for ON scheduled_messages
WHEN  (
    coalesce(datetime(NEW.scheduled_for, '+0 days') NOT BETWEEN '2020' AND '2100', 1)
    OR NEW.scheduled_for GLOB '????-??-??*'
    AND date(substr(NEW.scheduled_for, 1, 10), '+0 days') IS NOT substr(NEW.scheduled_for, 1, 10))
BEGIN SELECT raise(ABORT,
    'scheduled_for is not a time of 2020 to 2099: write UTC as YYYY-MM-DD HH:MM:SS'); END;
CREATE TRIGGER scheduled_for_normal_update AFTER UPDATE OF scheduled_for ON scheduled_messages
WHEN NEW.scheduled_for IS NOT datetime(NEW.scheduled_for, '+0 days')
BEGIN
    UPDATE scheduled_messages SET scheduled_for = datetime(NEW.scheduled_for, '+0 days') WHERE id = NEW.id;
END;
CREATE TRIGGER sent_at_checked_insert BEFORE INSERT ON scheduled_messages
WHEN NEW.sent_at IS NOT NULL AND (
    coalesce(datetime(NEW.sent_at, '+0 days') NOT BETWEEN '2020' AND '2100', 1)
    OR NEW.sent_at GLOB '????-??-??*'
    AND date(substr(NEW.sent_at, 1, 10), '+0 days') IS NOT substr(NEW.sent_at, 1, 10))
BEGIN SELECT raise(ABORT,
    'sent_at is not a time of 2020 to 2099: write UTC as YYYY-MM-DD HH:MM:SS'); END;
CREATE TRIGGER sent_at_normal_insert AFTER INSERT ON scheduled_messages
WHEN NEW.sent_at IS NOT datetime(NEW.sent_at, '+0 days')
BEGIN
    UPDATE scheduled_messages SET sent_at = datetime(NEW.sent_at, '+0 days') WHERE id = NEW.id;
END;
CREATE TRIGGER sent_at_checked_update BEFORE UPDATE OF sent_at ON scheduled_messages
WHEN NEW.sent_at IS NOT NULL AND (
    coalesce(datetime(NEW.sent_at, '+0 days') NOT BETWEEN '2020' AND '2100', 1)
    OR NEW.sent_at GLOB '????-??-??*'
    AND date(substr(NEW.sent_at, 1, 10), '+0 days') IS NOT substr(NEW.sent_at, 1, 10))
BEGIN SELECT raise(ABORT,
    'sent_at is not a time of 2020 to 2099: write UTC as YYYY-MM-DD HH:MM:SS'); END;
CREATE TRIGGER sent_at_normal_update AFTER UPDATE OF sent_at ON scheduled_messages
WHEN NEW.sent_at IS NOT datetime(NEW.sent_at, '+0 days')
BEGIN
    UPDATE scheduled_messages SET sent_at = datetime(NEW.sent_at, '+0 days') WHERE id = NEW.id;
END;
CREATE TRIGGER until_checked_insert BEFORE INSERT ON scheduled_messages
WHEN NEW.until IS NOT NULL AND (
    coalesce(datetime(NEW.until, '+0 days') NOT BETWEEN '2020' AND '2100', 1)
    OR NEW.until GLOB '????-??-??*'
    AND date(substr(NEW.until, 1, 10), '+0 days') IS NOT substr(NEW.until, 1, 10))
BEGIN SELECT raise(ABORT,
    'until is not a time of 2020 to 2099: write UTC as YYYY-MM-DD HH:MM:SS'); END;
CREATE TRIGGER until_normal_insert AFTER INSERT ON scheduled_messages
WHEN NEW.until IS NOT datetime(NEW.until, '+0 days')
BEGIN
    UPDATE scheduled_messages SET until = datetime(NEW.until, '+0 days') WHERE id = NEW.id;
END;
CREATE TRIGGER until_checked_update BEFORE UPDATE OF until ON scheduled_messages
WHEN NEW.until IS NOT NULL AND (
    coalesce(datetime(NEW.until, '+0 days') NOT BETWEEN '2020' AND '2100', 1)
    OR NEW.until GLOB '????-??-??*'
    AND date(substr(NEW.until, 1, 10), '+0 days') IS NOT substr(NEW.until, 1, 10))
BEGIN SELECT raise(ABORT,
    'until is not a time of 2020 to 2099: write UTC as YYYY-MM-DD HH:MM:SS'); END;
CREATE TRIGGER until_normal_update AFTER UPDATE OF until ON scheduled_messages
WHEN NEW.until IS NOT datetime(NEW.until, '+0 days')
BEGIN
    UPDATE scheduled_messages SET until = datetime(NEW.until, '+0 days') WHERE id = NEW.id;
END;
CREATE TRIGGER number_normal_insert AFTER INSERT ON scheduled_messages
WHEN NEW.phone_number NOT GLOB '+[1-9]*' AND replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', '') NOT GLOB '*[^0-9]*'
    AND (length(replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', '')) = 10 OR length(replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', '')) = 11 AND replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', '') GLOB '1*')
BEGIN
    UPDATE scheduled_messages SET phone_number = '+1' || substr(replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', ''), -10) WHERE id = NEW.id;
END;
CREATE TRIGGER number_normal_update AFTER UPDATE OF phone_number ON scheduled_messages
WHEN NEW.phone_number NOT GLOB '+[1-9]*' AND replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', '') NOT GLOB '*[^0-9]*'
    AND (length(replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', '')) = 10 OR length(replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', '')) = 11 AND replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', '') GLOB '1*')
BEGIN
    UPDATE scheduled_messages SET phone_number = '+1' || substr(replace(replace(replace(replace(replace(NEW.phone_number, ' ', ''), '-', ''), '(', ''), ')', ''), '.', ''), -10) WHERE id = NEW.id;
END;
CREATE TRIGGER touched AFTER UPDATE OF phone_number, customer_name, message_content, scheduled_for,
    status, campaign_name, sent_at, error_message, held_because, anyway ON scheduled_messages
WHEN NEW.updated_at IS OLD.updated_at
BEGIN UPDATE scheduled_messages SET updated_at = datetime('now') WHERE id = NEW.id; END;
CREATE TRIGGER too_late AFTER UPDATE OF scheduled_for, until ON scheduled_messages
WHEN NEW.status = 'scheduled' AND datetime(NEW.scheduled_for) > datetime(NEW.until)
BEGIN
    UPDATE scheduled_messages SET status = 'cancelled', error_message = 'too late',
        updated_at = NEW.updated_at, actor = NEW.actor WHERE id = NEW.id;
END;
CREATE TRIGGER audited_insert AFTER INSERT ON scheduled_messages
BEGIN
    INSERT INTO events (at, actor, scheduled_message_id, event, detail)
    VALUES (NEW.created_at, coalesce(NEW.actor, 'sql'), NEW.id, 'added',
            NEW.status || ' for ' || datetime(NEW.scheduled_for));
    UPDATE scheduled_messages SET actor = NULL WHERE id = NEW.id AND actor IS NOT NULL;
END;
CREATE TRIGGER audited_update AFTER UPDATE OF status, scheduled_for, message_content, held_because,
    phone_number, anyway ON scheduled_messages
WHEN NEW.status IS NOT OLD.status OR datetime(NEW.scheduled_for) IS NOT datetime(OLD.scheduled_for)
    OR NEW.message_content IS NOT OLD.message_content
        AND (NEW.message_content <> '' OR NEW.actor IS NULL)  -- blanked: one event for all
    OR NEW.anyway IS NOT OLD.anyway OR NEW.held_because IS NOT OLD.held_because
    OR NEW.phone_number IS NOT OLD.phone_number
BEGIN
    INSERT INTO events (at, actor, scheduled_message_id, event, detail)
    SELECT CASE WHEN NEW.updated_at IS OLD.updated_at THEN datetime('now') ELSE NEW.updated_at END,
           coalesce(NEW.actor, 'sql'), NEW.id,
           CASE WHEN NEW.status IS NOT OLD.status THEN NEW.status
                WHEN NEW.held_because IS NOT OLD.held_because
                    THEN CASE WHEN NEW.held_because IS NULL THEN 'released' ELSE 'held' END
                WHEN datetime(NEW.scheduled_for) IS NOT datetime(OLD.scheduled_for) THEN 'moved'
                ELSE 'edited' END,
           trim(CASE WHEN NEW.status IS NOT OLD.status THEN 'was ' || OLD.status || ' ' ELSE '' END
                || CASE WHEN datetime(NEW.scheduled_for) IS NOT datetime(OLD.scheduled_for)
                        THEN 'from ' || datetime(OLD.scheduled_for)
                             || ' to ' || datetime(NEW.scheduled_for) || ' ' ELSE '' END
                || CASE WHEN NEW.message_content IS NOT OLD.message_content
                        THEN 'new text ' || CASE WHEN EXISTS (SELECT 1 FROM messages
                             WHERE scheduled_message_id = NEW.id AND status <> 'queued')
                             THEN '(too late: it was under way) ' ELSE '' END ELSE '' END
                || iif(NEW.phone_number IS NOT OLD.phone_number, 'new number ', '')
                || iif(NEW.anyway IS NOT OLD.anyway, 'anyway ', '')
                || coalesce(NEW.held_because, '')
                || CASE WHEN NEW.status IN ('failed', 'cancelled')
                        THEN coalesce(NEW.error_message, '') ELSE '' END);
END;
CREATE TRIGGER signature_moved AFTER UPDATE OF actor ON scheduled_messages
WHEN NEW.actor IS NOT NULL
BEGIN UPDATE scheduled_messages SET actor = NULL WHERE id = NEW.id; END;
CREATE TRIGGER audited_delete AFTER DELETE ON scheduled_messages
BEGIN
    INSERT INTO events (at, actor, scheduled_message_id, event)
    VALUES (datetime('now'), 'sql', OLD.id, 'deleted');
END;
CREATE TRIGGER opt_out_audited AFTER INSERT ON opt_outs
BEGIN
    INSERT INTO events (at, actor, event, detail)
    VALUES (NEW.at, coalesce(NEW.actor, 'sql'), 'opted out', NEW.phone_number || ': ' || NEW.tier
            || iif(NEW.reason = '', '', ', ' || NEW.reason));
    UPDATE opt_outs SET actor = NULL WHERE phone_number = NEW.phone_number AND actor IS NOT NULL;
END;
CREATE TRIGGER opt_out_amid_message AFTER INSERT ON opt_outs
BEGIN
    UPDATE scheduled_messages SET status = 'cancelled', error_message = 'the recipient said stop'
    WHERE phone_number = NEW.phone_number AND status = 'scheduled' AND id IN
        (SELECT scheduled_message_id FROM messages WHERE status IN ('queued', 'sending'));
END;
CREATE TRIGGER opt_out_removal_audited AFTER DELETE ON opt_outs
BEGIN
    INSERT INTO events (at, actor, event, detail)
    VALUES (iif(OLD.actor IS NULL, datetime('now'), OLD.at), coalesce(OLD.actor, 'sql'),
            'opt-out removed', OLD.phone_number || iif(OLD.actor IS NULL, '', ': ' || OLD.reason));
END;
CREATE TRIGGER cancelled_bubbles AFTER UPDATE OF status ON scheduled_messages
WHEN NEW.status = 'cancelled' AND OLD.status <> 'cancelled'
BEGIN
    UPDATE messages SET status = 'cancelled'
    WHERE scheduled_message_id = NEW.id AND (status = 'queued' OR status = 'sending' AND NOT EXISTS
        (SELECT 1 FROM segments WHERE message_id = messages.id AND status = 'sending'));
    UPDATE scheduled_messages SET error_message = (
        SELECT sum(status IN ('sent', 'sending')) || ' of ' || count(*) || ' bubbles were sent'
            || iif(NEW.error_message IS OLD.error_message, '', ': ' || NEW.error_message)
        FROM messages WHERE scheduled_message_id = NEW.id)
    WHERE id = NEW.id AND EXISTS (SELECT 1 FROM messages
        WHERE scheduled_message_id = NEW.id AND status IN ('sent', 'sending'));
END;
CREATE TRIGGER retried_bubbles AFTER UPDATE OF status ON scheduled_messages
WHEN NEW.status = 'scheduled' AND OLD.status <> 'scheduled'
BEGIN
    UPDATE messages SET status = 'queued', error_message = NULL
    WHERE scheduled_message_id = NEW.id AND status IN ('failed', 'cancelled');
    UPDATE scheduled_messages SET attempts = 0 WHERE id = NEW.id;
END;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('scheduled_messages',16);
INSERT INTO "sqlite_sequence" VALUES('messages',10);
PRAGMA user_version=1;
COMMIT;
