/* load.c - a raw MQTT 3.1.1 load generator, for brokers on this machine. tests/bench/broker.py
 * drives it.
 *
 * Three kinds of work, one JSON line of results on stdout:
 *   messages  closed loop: at most --window messages are outstanding, counted by what the first
 *             subscriber has not seen yet; without a subscriber by PUBACK, or by PINGREQ (QoS 0).
 *             With --rate messages go out in step with the clock, every TICK_NS, and what comes is
 *             read then, too: nobody is woken by the broker. In a closed loop the slower broker
 *             finds this program asleep more often and pays for waking it, so that its CPU time a
 *             message is that of another load (seen: a third more)
 *   --alerts  one at a time: a plain hop, then a reading above the limit until its alert is seen
 *   --logins  connect, CONNACK, disconnect; --window at a time. With --refused each must fail
 *
 * One thread, raw sockets: what it costs itself must not hide the broker. With --pid the broker's
 * CPU time is taken from the scheduler, at the very begin and end of what is measured. Everything
 * ends by itself: by count, by --seconds, or when nothing has come for STALL_S. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <math.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CLIENTS_MAX 512u
#define CREDENTIALS_MAX 20000u
#define CONNECT_MAX 66000u /* a CONNECT with the longest password there is */
#define PACKET_MAX 1024u   /* a PUBLISH of ours */
#define IN_BYTES 65536u
#define OUT_BYTES (1u << 20)
#define READINGS 1024u /* messages until the readings repeat */
#define SAMPLES_MAX (1u << 20)
#define STALL_S 2.0   /* nothing comes any more: what is outstanding is lost */
#define ANSWER_S 10.0 /* for CONNACK and SUBACK */
#define TICK_NS 1000000u
#define STAMP 20 /* digits of the send time at a payload's end */

enum { CONNACK = 2, PUBLISH = 3, PUBACK = 4, SUBACK = 9, PINGRESP = 13 };

struct credential {
    char id[64];
    char *password;
};

struct conn {
    int fd;
    unsigned index;
    const char *id;
    size_t in_len, out_len, out_at;
    unsigned batch;   /* messages since the last PINGREQ */
    unsigned pending; /* PINGREQs without an answer */
    unsigned batches[256];
    unsigned batch_head;
    uint16_t mid;
    uint8_t *in, *out;
};

struct cpu {
    uint64_t main_ns, all_ns;
};

static struct {
    uint16_t port;
    unsigned pubs, subs, qos, window, rate, warmup, alerts, logins, pause_us;
    uint64_t count;
    double seconds;
    long pid;
    bool refused;
    const char *filter, *credentials;
} opt = {.pubs = 1, .window = 100, .warmup = 2000, .filter = "devices/+/telemetry"};

static struct credential credentials[CREDENTIALS_MAX];
static unsigned credential_count;
static struct conn conns[CLIENTS_MAX]; /* first the subscribers, then the publishers */
static unsigned conn_count;
static uint64_t sent, received, acked, back, lost;
static uint64_t samples[SAMPLES_MAX];
static size_t sample_count;
static uint64_t alert_seen;

static void die(const char *what, const char *about)
{
    fprintf(stderr, "load: %s: %s\n", what, about);
    exit(1);
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;

    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t mono_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

/* --- the broker's CPU time --- */

static uint64_t thread_ns(const char *task)
{
    char path[96];
    char line[96];
    uint64_t ns = 0;

    snprintf(path, sizeof(path), "/proc/%ld/task/%.20s/schedstat", opt.pid, task);
    FILE *f = fopen(path, "re");
    if (f != NULL) {
        if (fgets(line, sizeof(line), f) != NULL) {
            ns = strtoull(line, NULL, 10);
        }
        (void)fclose(f);
    }
    return ns;
}

static struct cpu broker_cpu(void)
{
    struct cpu cpu = {0};
    char path[64];

    if (opt.pid == 0) {
        return cpu;
    }
    snprintf(path, sizeof(path), "/proc/%ld/task", opt.pid);
    DIR *dir = opendir(path);
    if (dir == NULL) {
        die(path, strerror(errno));
    }
    for (const struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (e->d_name[0] != '.') {
            uint64_t ns = thread_ns(e->d_name);
            cpu.all_ns += ns;
            cpu.main_ns += strtol(e->d_name, NULL, 10) == opt.pid ? ns : 0;
        }
    }
    closedir(dir);
    return cpu;
}

/* --- packets --- */

static size_t put_text(uint8_t *out, const char *text)
{
    size_t len = strlen(text);

    out[0] = (uint8_t)(len >> 8);
    out[1] = (uint8_t)len;
    memcpy(out + 2, text, len); /* NOLINT(bugprone-not-null-terminated-result): MQTT has none */
    return len + 2;
}

static size_t put_head(uint8_t *out, uint8_t first, size_t rest)
{
    size_t n = 0;

    out[n++] = first;
    do {
        out[n++] = (uint8_t)((rest & 127) | (rest > 127 ? 128 : 0));
        rest >>= 7;
    } while (rest > 0);
    return n;
}

static size_t put_connect(uint8_t *out, const struct credential *who)
{
    static const uint8_t fixed[] = {0, 4, 'M', 'Q', 'T', 'T', 4, 0xC2, 0, 0};
    bool anonymous = who->password[0] == '\0';
    size_t body = sizeof(fixed) + 2 + strlen(who->id);

    if (!anonymous) {
        body += 2 + strlen(who->id) + 2 + strlen(who->password);
    }
    size_t n = put_head(out, 0x10, body);
    memcpy(out + n, fixed, sizeof(fixed));
    if (anonymous) {
        out[n + 7] = 2;
    }
    n += sizeof(fixed);
    n += put_text(out + n, who->id);
    if (!anonymous) {
        n += put_text(out + n, who->id);
        n += put_text(out + n, who->password);
    }
    return n;
}

/* --- readings: each metric swings slowly and carries its own noise, like a healthy sensor --- */

static struct reading {
    double temperature, humidity, pressure, battery;
} readings[READINGS];

static double noise(void)
{
    static uint64_t x = 88172645463325252u;
    double sum = 0;

    for (int i = 0; i < 12; i++) { /* twelve uniforms: near enough to normal */
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        sum += (double)(x >> 11) / 9007199254740992.0;
    }
    return sum - 6;
}

static void make_readings(void)
{
    for (unsigned i = 0; i < READINGS; i++) {
        double swing = sin(2 * M_PI * i / READINGS);
        readings[i] = (struct reading){.temperature = 21.5 + 0.4 * swing + 0.2 * noise(),
                                       .humidity = 47 - 1.5 * swing + 0.5 * noise(),
                                       .pressure = 1013.2 + 0.3 * swing + 0.1 * noise(),
                                       .battery = 88 + 0.3 * noise()};
    }
}

/* The time as devices write it; the date is made once a millisecond. */
static const char *timestamp(void)
{
    static char text[32];
    static uint64_t last_ms;
    uint64_t ms = clock_ns(CLOCK_REALTIME) / 1000000;

    if (ms != last_ms) {
        time_t s = (time_t)(ms / 1000);
        struct tm tm;
        gmtime_r(&s, &tm);
        size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
        snprintf(text + n, sizeof(text) - n, ".%03uZ", (unsigned)(ms % 1000));
        last_ms = ms;
    }
    return text;
}

/* Append one PUBLISH of `device` to what `conn` has to send. */
static void put_publish(struct conn *conn, const char *device, double temperature)
{
    char topic[128], payload[640];
    const struct reading *r = &readings[(sent + (uint64_t)conn->index * 37) % READINGS];
    uint8_t *out = conn->out + conn->out_len;

    if (conn->out_len + PACKET_MAX > OUT_BYTES) {
        die("the broker does not read", conn->id);
    }
    snprintf(topic, sizeof(topic), "devices/%s/telemetry", device);
    int len = snprintf(
        payload, sizeof(payload),
        "{\"deviceId\":\"%s\",\"timestamp\":\"%s\",\"sensors\":{\"temperature\":%.2f,"
        "\"humidity\":%.2f,\"pressure\":%.2f,\"battery\":%.1f},\"location\":{\"latitude\":52.5200,"
        "\"longitude\":13.4050},\"metadata\":{\"firmware\":\"1.4.2\",\"site\":\"plant-07\","
        "\"line\":\"b\",\"sent\":\"%0*llu\"}}",
        device, timestamp(), temperature > 0 ? temperature : r->temperature, r->humidity,
        r->pressure, r->battery, STAMP, (unsigned long long)mono_ns());
    size_t body = 2 + strlen(topic) + (opt.qos > 0 ? 2u : 0u) + (size_t)len;
    size_t n = put_head(out, (uint8_t)(0x30 | opt.qos << 1), body);
    n += put_text(out + n, topic);
    if (opt.qos > 0) {
        conn->mid = (uint16_t)(conn->mid == 65535 ? 1 : conn->mid + 1);
        out[n++] = (uint8_t)(conn->mid >> 8);
        out[n++] = (uint8_t)conn->mid;
    }
    memcpy(out + n, payload, (size_t)len);
    conn->out_len += n + (size_t)len;
    sent++;
}

static void put_small(struct conn *conn, uint8_t first, const uint8_t *id)
{
    uint8_t *out = conn->out + conn->out_len;

    if (conn->out_len + 4 > OUT_BYTES) {
        die("the broker does not read", conn->id);
    }
    out[0] = first;
    out[1] = id != NULL ? 2 : 0;
    if (id != NULL) {
        memcpy(out + 2, id, 2);
    }
    conn->out_len += 2u + out[1];
}

static void flush(struct conn *conn)
{
    while (conn->out_at < conn->out_len) {
        ssize_t n = send(conn->fd, conn->out + conn->out_at, conn->out_len - conn->out_at,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0) {
            if (errno == EAGAIN) {
                return;
            }
            die(conn->id, strerror(errno));
        }
        conn->out_at += (size_t)n;
    }
    conn->out_at = conn->out_len = 0;
}

/* --- what comes back --- */

static void sample(uint64_t ns)
{
    if (sample_count < SAMPLES_MAX) {
        samples[sample_count++] = ns;
    }
}

static uint64_t stamp_of(const uint8_t *packet, size_t len)
{
    uint64_t ns = 0;

    if (len < STAMP + 3) {
        die("a message that is not ours", "subscriber");
    }
    for (size_t i = len - STAMP - 3; i < len - 3; i++) { /* before "}} */
        ns = ns * 10 + (uint64_t)(packet[i] - '0');
    }
    return ns;
}

static void on_publish(struct conn *conn, const uint8_t *packet, size_t head, size_t len)
{
    size_t topic_len = (size_t)packet[head] << 8 | packet[head + 1];
    const char *topic = (const char *)packet + head + 2;

    if ((packet[0] & 6) != 0) {
        put_small(conn, 0x40, packet + head + 2 + topic_len);
    }
    if (topic_len > 7 && memcmp(topic, "alerts/", 7) == 0) {
        alert_seen++;
        return;
    }
    received++;
    if (conn->index == 0) {
        back++;
        sample(mono_ns() - stamp_of(packet, len));
    }
}

static void on_packet(struct conn *conn, const uint8_t *packet, size_t head, size_t len)
{
    switch (packet[0] >> 4) {
    case PUBLISH: on_publish(conn, packet, head, len); break;
    case PUBACK:
        acked++;
        back += opt.subs == 0;
        break;
    case PINGRESP:
        if (conn->pending > 0) {
            back += conn->batches[conn->batch_head++ % 256];
            conn->pending--;
        }
        break;
    default: break;
    }
}

/* Length of the packet at `in`, 0 while it is not all there; *head: bytes before its body. */
static size_t packet_len(const uint8_t *in, size_t len, size_t *head)
{
    size_t rest = 0;

    for (size_t i = 1; i < 5 && i < len; i++) {
        rest |= (size_t)(in[i] & 127) << (7 * (i - 1));
        if (in[i] < 128) {
            *head = i + 1;
            if (rest + i + 1 > IN_BYTES) {
                die("a packet is too long", "broker");
            }
            return rest + i + 1 <= len ? rest + i + 1 : 0;
        }
    }
    return 0;
}

/* Take what has come; true if there was anything. */
static bool take(struct conn *conn)
{
    size_t at = 0, head = 0, len;
    ssize_t n = recv(conn->fd, conn->in + conn->in_len, IN_BYTES - conn->in_len, MSG_DONTWAIT);

    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        die(conn->id, n == 0 ? "the broker closed the connection" : strerror(errno));
    }
    if (n < 0) {
        return false;
    }
    conn->in_len += (size_t)n;
    while ((len = packet_len(conn->in + at, conn->in_len - at, &head)) > 0) {
        on_packet(conn, conn->in + at, head, len);
        at += len;
    }
    memmove(conn->in, conn->in + at, conn->in_len - at);
    conn->in_len -= at;
    return true;
}

/* Everything there is, without waiting. */
static bool take_all(void)
{
    bool any = false;

    for (unsigned i = 0; i < conn_count; i++) {
        flush(&conns[i]);
        while (take(&conns[i])) {
            any = true;
        }
    }
    return any;
}

static bool poll_all(int timeout_ms)
{
    static struct pollfd fds[CLIENTS_MAX];
    bool any = false;

    for (unsigned i = 0; i < conn_count; i++) {
        flush(&conns[i]);
        fds[i] = (struct pollfd){.fd = conns[i].fd, .events = POLLIN};
        if (conns[i].out_len > conns[i].out_at) {
            fds[i].events |= POLLOUT;
        }
    }
    if (poll(fds, conn_count, timeout_ms) < 0 && errno != EINTR) {
        die("poll", strerror(errno));
    }
    for (unsigned i = 0; i < conn_count; i++) {
        if (fds[i].revents != 0 && take(&conns[i])) {
            any = true;
        }
    }
    return any;
}

/* --- connecting --- */

static int dial(bool wait)
{
    struct sockaddr_in to = {.sin_family = AF_INET,
                             .sin_port = htons(opt.port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (wait ? 0 : SOCK_NONBLOCK), 0);

    if (fd < 0 || (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS)) {
        die("connect", strerror(errno));
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}

/* Read exactly one small packet of this kind; its last byte is the answer. */
static uint8_t answer(const struct conn *conn, uint8_t kind)
{
    uint8_t packet[16];
    struct timeval limit = {.tv_sec = (time_t)ANSWER_S};

    setsockopt(conn->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
    if (recv(conn->fd, packet, 2, MSG_WAITALL) != 2 || packet[0] >> 4 != kind || packet[1] < 2 ||
        packet[1] > 8 || recv(conn->fd, packet + 2, packet[1], MSG_WAITALL) != packet[1]) {
        die(conn->id, "no answer, or another one than expected, to CONNECT or SUBSCRIBE");
    }
    return packet[1 + packet[1]];
}

static void subscribe(struct conn *conn, const char *filter)
{
    uint8_t body[256] = {0, 1};
    uint8_t packet[264];
    size_t n = 2;

    if (strlen(filter) > 200) {
        die("filter is too long", filter);
    }
    n += put_text(body + n, filter);
    body[n++] = (uint8_t)opt.qos;
    size_t head = put_head(packet, 0x82, n);
    memcpy(packet + head, body, n);
    if (send(conn->fd, packet, head + n, MSG_NOSIGNAL) < 0 || answer(conn, SUBACK) > 2) {
        die(conn->id, "SUBSCRIBE is refused");
    }
}

static struct conn *open_client(void)
{
    static uint8_t packet[CONNECT_MAX];
    struct conn *conn = &conns[conn_count];
    const struct credential *who = &credentials[conn_count];

    if (conn_count >= credential_count) {
        die("not enough lines", opt.credentials);
    }
    *conn = (struct conn){.fd = dial(true), .index = conn_count, .id = who->id};
    conn->in = malloc(IN_BYTES);
    conn->out = malloc(OUT_BYTES);
    if (conn->in == NULL || conn->out == NULL) {
        die("malloc", strerror(ENOMEM));
    }
    size_t n = put_connect(packet, who);
    if (send(conn->fd, packet, n, MSG_NOSIGNAL) != (ssize_t)n || answer(conn, CONNACK) != 0) {
        die(who->id, "CONNECT is refused");
    }
    conn_count++;
    return conn;
}

/* --- messages --- */

static bool ping_paced(void)
{
    return opt.subs == 0 && opt.qos == 0;
}

/* With --rate: how many may be out by now. */
static uint64_t due(uint64_t elapsed_ns)
{
    return opt.rate == 0 ? UINT64_MAX : (uint64_t)((double)elapsed_ns * 1e-9 * opt.rate);
}

/* Wait for what comes, or with --rate for the next tick; true if something came. */
static bool wait_turn(void)
{
    struct timespec next;

    if (opt.rate == 0) {
        return poll_all(100);
    }
    bool any = take_all();
    uint64_t now = mono_ns();
    uint64_t at = now - now % TICK_NS + TICK_NS;
    next.tv_sec = (time_t)(at / 1000000000u);
    next.tv_nsec = (long)(at % 1000000000u);
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &next, NULL);
    return take_all() || any;
}

/* Fill the window, turn by turn among the publishers. */
static void refill(uint64_t until)
{
    static unsigned turn;
    unsigned each = opt.window / 2 / opt.pubs;
    unsigned batch = each > 0 ? each : 1; /* two batches are under way: the broker is never idle */

    while (sent < until && sent - back - lost < opt.window) {
        struct conn *conn = &conns[opt.subs + turn++ % opt.pubs];
        put_publish(conn, conn->id, 0);
        if (ping_paced() && (++conn->batch >= batch || sent == until)) {
            put_small(conn, 0xC0, NULL);
            conn->batches[(conn->batch_head + conn->pending++) % 256] = conn->batch;
            conn->batch = 0;
        }
    }
}

/* At the end of a timed run a publisher may hold an unfinished batch. */
static void close_batches(void)
{
    for (unsigned i = opt.subs; ping_paced() && i < conn_count; i++) {
        if (conns[i].batch > 0) {
            put_small(&conns[i], 0xC0, NULL);
            conns[i].batches[(conns[i].batch_head + conns[i].pending++) % 256] = conns[i].batch;
            conns[i].batch = 0;
        }
    }
}

/* Is everything back: at the first subscriber, at all others, at the publishers? */
static bool settled(void)
{
    uint64_t expected = (sent - lost) * opt.subs;

    return back + lost >= sent && received >= expected &&
           (opt.qos == 0 || acked >= sent - (opt.subs == 0 ? lost : 0));
}

static void run(uint64_t count, double limit_s)
{
    uint64_t until = count > 0 ? sent + count : UINT64_MAX;
    uint64_t begin = mono_ns();
    uint64_t base = sent;
    uint64_t heard = begin;

    while (sent < until || !settled()) {
        uint64_t now = mono_ns();
        if (sent < until && limit_s > 0 && (double)(now - begin) > limit_s * 1e9) {
            until = sent;
        }
        uint64_t may = due(now - begin) < until - base ? base + due(now - begin) : until;
        refill(may);
        if (sent >= until) {
            close_batches();
        }
        if (wait_turn()) {
            heard = mono_ns();
        } else if ((double)(mono_ns() - heard) > STALL_S * 1e9) {
            if (sent == back + lost) {
                break; /* another subscriber, or an acknowledgement, is missing */
            }
            lost += sent - back - lost;
            heard = mono_ns();
        }
    }
}

static int by_value(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

static double percentile_us(double share)
{
    if (sample_count == 0) {
        return 0;
    }
    qsort(samples, sample_count, sizeof(samples[0]), by_value);
    return (double)samples[(size_t)(share * (double)(sample_count - 1))] / 1000.0;
}

static void print_result(const char *unit, uint64_t n, uint64_t ns, struct cpu a, struct cpu b)
{
    double each = n > 0 ? 1e-3 / (double)n : 0;

    printf("{\"%s\":%llu,\"seconds\":%.3f,\"perSecond\":%.0f,\"lost\":%llu,\"p50Us\":%.1f,"
           "\"p99Us\":%.1f,\"mainCpuUs\":%.3f,\"cpuUs\":%.3f}\n",
           unit, (unsigned long long)n, (double)ns / 1e9, (double)n / ((double)ns / 1e9),
           (unsigned long long)lost, percentile_us(0.5), percentile_us(0.99),
           (double)(b.main_ns - a.main_ns) * each, (double)(b.all_ns - a.all_ns) * each);
}

static void messages(void)
{
    for (unsigned i = 0; i < opt.subs; i++) {
        subscribe(open_client(), opt.filter);
    }
    for (unsigned i = 0; i < opt.pubs; i++) {
        open_client();
    }
    if (opt.warmup > 0) {
        run(opt.warmup, opt.seconds);
    }
    lost = sample_count = 0;
    sent = back = received = acked = 0;
    struct cpu before = broker_cpu();
    uint64_t begin = mono_ns();
    run(opt.count, opt.seconds);
    uint64_t spent = mono_ns() - begin;
    print_result("messages", sent - lost, spent, before, broker_cpu());
}

/* --- alerts: the first credential listens, the second may publish for any device --- */

static void pause_between(void)
{
    struct timespec t = {.tv_nsec = (long)opt.pause_us * 1000};

    nanosleep(&t, NULL);
}

/* Publish, and wait until *counter has moved; ns it took. */
static uint64_t one_trip(struct conn *conn, const char *device, double temperature,
                         const uint64_t *counter)
{
    uint64_t was = *counter, begin = mono_ns(), acks = acked;

    put_publish(conn, device, temperature);
    while (*counter == was) {
        if ((double)(mono_ns() - begin) > STALL_S * 1e9) {
            die(device, "what should come does not come");
        }
        poll_all(100);
    }
    uint64_t spent = mono_ns() - begin;
    while (opt.qos > 0 && acked == acks && (double)(mono_ns() - begin) < STALL_S * 1e9) {
        poll_all(100);
    }
    return spent;
}

static void alerts(void)
{
    static uint64_t hop[SAMPLES_MAX];
    char device[96], topic[128];
    struct conn *listener = open_client();

    snprintf(topic, sizeof(topic), "devices/%.64s/telemetry", credentials[1].id);
    subscribe(listener, topic);
    subscribe(listener, "alerts/critical");
    struct conn *publisher = open_client();
    for (unsigned i = 0; i < opt.alerts; i++) { /* known devices, all well */
        snprintf(device, sizeof(device), "hot-%ld-%u", (long)getpid(), i);
        put_publish(publisher, device, 0);
        flush(publisher);
        one_trip(publisher, publisher->id, 0, &received);
    }
    for (unsigned i = 0; i < opt.alerts; i++) {
        snprintf(device, sizeof(device), "hot-%ld-%u", (long)getpid(), i);
        pause_between();
        hop[i] = one_trip(publisher, publisher->id, 0, &received);
        pause_between();
        samples[i] = one_trip(publisher, device, 95, &alert_seen);
    }
    sample_count = opt.alerts;
    double p50 = percentile_us(0.5), p99 = percentile_us(0.99);
    memcpy(samples, hop, opt.alerts * sizeof(hop[0]));
    printf("{\"alerts\":%u,\"p50Us\":%.1f,\"p99Us\":%.1f,\"hopP50Us\":%.1f,\"hopP99Us\":%.1f}\n",
           opt.alerts, p50, p99, percentile_us(0.5), percentile_us(0.99));
}

/* --- logins --- */

static void send_login(int fd, unsigned which)
{
    static uint8_t packet[CONNECT_MAX];
    size_t n = put_connect(packet, &credentials[which % credential_count]);

    if (send(fd, packet, n, MSG_NOSIGNAL) != (ssize_t)n) {
        die("CONNECT", strerror(errno));
    }
}

static void take_login(int fd)
{
    static const uint8_t disconnect[] = {0xE0, 0};
    uint8_t packet[4];
    ssize_t n = recv(fd, packet, sizeof(packet), 0);

    if (n != 4 || packet[0] != 0x20 || (packet[3] != 0) != opt.refused) {
        die("login", n == 4 ? "not the answer that was expected" : "closed without an answer");
    }
    send(fd, disconnect, sizeof(disconnect), MSG_NOSIGNAL);
    close(fd);
}

static void logins(void)
{
    static struct pollfd fds[CLIENTS_MAX];
    unsigned most = opt.window < CLIENTS_MAX ? opt.window : CLIENTS_MAX;
    unsigned width = most < opt.logins ? most : opt.logins;
    unsigned begun = 0, done = 0;
    struct cpu before = broker_cpu();
    uint64_t begin = mono_ns();

    for (; begun < width; begun++) {
        fds[begun] = (struct pollfd){.fd = dial(true), .events = POLLIN};
        send_login(fds[begun].fd, begun);
    }
    while (done < opt.logins) {
        if (poll(fds, width, (int)(ANSWER_S * 1000)) <= 0) {
            die("login", "no answer");
        }
        for (unsigned i = 0; i < width; i++) {
            if (fds[i].fd < 0 || fds[i].revents == 0) {
                continue;
            }
            take_login(fds[i].fd);
            done++;
            fds[i].fd = -1; /* poll() looks past it */
            if (begun < opt.logins) {
                fds[i].fd = dial(true);
                send_login(fds[i].fd, begun++);
            }
        }
    }
    uint64_t spent = mono_ns() - begin;
    print_result("logins", done, spent, before, broker_cpu());
}

/* --- command line --- */

static void read_credentials(void)
{
    char *line = NULL;
    size_t bytes = 0;
    FILE *f = fopen(opt.credentials, "re");

    if (f == NULL) {
        die(opt.credentials, strerror(errno));
    }
    while (credential_count < CREDENTIALS_MAX && getline(&line, &bytes, f) > 0) {
        struct credential *who = &credentials[credential_count];
        line[strcspn(line, "\n")] = '\0';
        size_t id_len = strcspn(line, " ");
        if (id_len == 0 || id_len >= sizeof(who->id) || strlen(line) > 65000) {
            die(opt.credentials, "a line is not 'clientid password' (no password: anonymous)");
        }
        memcpy(who->id, line, id_len);
        who->password = strdup(line + id_len + (line[id_len] == ' '));
        if (who->password == NULL) {
            die("strdup", strerror(ENOMEM));
        }
        credential_count++;
    }
    free(line);
    (void)fclose(f);
}

static void usage(void)
{
    fprintf(
        stderr,
        "usage: load --port PORT --credentials FILE [OPTION]...\n"
        "FILE has a line 'clientid password' for each client: subscribers first.\n"
        "  --pubs N --subs M --qos 0|1 --window N   (1, 0, 0, 100; filter devices/+/telemetry)\n"
        "  --count N --seconds S --warmup N         messages, or until S seconds are over\n"
        "  --filter FILTER                          what subscribers subscribe to\n"
        "  --alerts N --pause-us N                  publish-to-alert against a plain hop\n"
        "  --logins N [--refused]                   logins, --window at a time; all refused\n"
        "  --pid PID                                the broker's process, for its CPU time\n");
    exit(2);
}

static unsigned long number(const char *text, unsigned long max)
{
    char *end;
    unsigned long value = strtoul(text, &end, 10);

    if (*text == '\0' || *end != '\0' || value > max) {
        fprintf(stderr, "load: %s is not a number up to %lu\n", text, max);
        exit(2);
    }
    return value;
}

static void set_option(int name, const char *value)
{
    switch (name) {
    case 'p': opt.port = (uint16_t)number(value, 65535); break;
    case 'c': opt.credentials = value; break;
    case 'P': opt.pubs = (unsigned)number(value, CLIENTS_MAX / 2); break;
    case 'S': opt.subs = (unsigned)number(value, CLIENTS_MAX / 2); break;
    case 'q': opt.qos = (unsigned)number(value, 1); break;
    case 'w': opt.window = (unsigned)number(value, 100000); break;
    case 'r': opt.rate = (unsigned)number(value, 10000000); break;
    case 'n': opt.count = number(value, 1000000000); break;
    case 's': opt.seconds = (double)number(value, 3600); break;
    case 'u': opt.warmup = (unsigned)number(value, 10000000); break;
    case 'f': opt.filter = value; break;
    case 'a': opt.alerts = (unsigned)number(value, SAMPLES_MAX); break;
    case 'z': opt.pause_us = (unsigned)number(value, 999999); break;
    case 'R': opt.refused = true; break;
    case 'l': opt.logins = (unsigned)number(value, 10000000); break;
    case 'i': opt.pid = (long)number(value, INT32_MAX); break;
    default: usage();
    }
}

int main(int argc, char **argv)
{
    static const struct option names[] = {{"port", 1, NULL, 'p'},     {"credentials", 1, NULL, 'c'},
                                          {"pubs", 1, NULL, 'P'},     {"subs", 1, NULL, 'S'},
                                          {"qos", 1, NULL, 'q'},      {"window", 1, NULL, 'w'},
                                          {"rate", 1, NULL, 'r'},     {"count", 1, NULL, 'n'},
                                          {"seconds", 1, NULL, 's'},  {"warmup", 1, NULL, 'u'},
                                          {"filter", 1, NULL, 'f'},   {"alerts", 1, NULL, 'a'},
                                          {"pause-us", 1, NULL, 'z'}, {"logins", 1, NULL, 'l'},
                                          {"pid", 1, NULL, 'i'},      {"refused", 0, NULL, 'R'},
                                          {NULL, 0, NULL, 0}};
    int name;

    while ((name = getopt_long(argc, argv, "", names, NULL)) != -1) {
        set_option(name, optarg);
    }
    bool bounded = opt.count > 0 || opt.seconds > 0 || opt.alerts > 0 || opt.logins > 0;
    if (opt.port == 0 || opt.credentials == NULL || !bounded || opt.pubs == 0 || opt.window == 0 ||
        optind != argc) {
        usage();
    }
    read_credentials();
    if (credential_count == 0) {
        die(opt.credentials, "is empty");
    }
    make_readings();
    if (opt.logins > 0) {
        logins();
    } else if (opt.alerts > 0) {
        alerts();
    } else {
        messages();
    }
    return 0;
}
