/* What the server knows: its options, its connections, the truth so far, and who is due next. */
#ifndef TRUTH_STATE_H
#define TRUTH_STATE_H

#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "request.h"

enum {
    MAX_FDS = 65536, EVENTS = 512, SENDS_PER_TURN = 16, MAX_CHUNK_TOKENS = 256, MAX_FLOOD = 64,
    EVENT_BYTES = 8192, MAX_TOKENS = 1 << 20, OUT_BYTES = MAX_FLOOD * EVENT_BYTES,
};
typedef enum { NONE, ERROR, CUT, HTTP_500, STALL, NO_FINISH, NO_DONE, GARBAGE, FAULTS } fault_t;
static const char *FAULT_NAMES[FAULTS] = {
    "none", "error", "cut", "http_500", "stall", "no_finish", "no_done", "garbage",
};
static const char *WORDS[] = {
    " time", " year", " people", " way", " day", " man", " thing", " woman", " life", " child",
    " world", " school", " state", " family", " student", " group",
};

typedef struct {
    int64_t at_ns;
    uint32_t late_ns, tokens, reasoning;
} chunk_t;

typedef struct {
    long connection, prompt_tokens, total;
    int stream, chat, fault, blocked;
    int64_t received_ns, ended_ns;
    const char *end;
    long chunks;
    chunk_t *chunk;
} truth_t;

typedef struct conn {
    int fd, place, waiting; /* place: in the heap, -1 when not; waiting: for room to send */
    long id, request;       /* request: index of the one being answered, -1 when none */
    uint64_t turn;
    char *in, *out;
    size_t in_len, in_cap, out_at, out_len;
    int64_t received_ns, first_ns, due_ns;
    long sent, reasoning;
    int head_sent;
    asked_t asked;
    char prefix[512];
    size_t prefix_len;
    struct conn *next_dead;
} conn_t;

static struct {
    const char *model, *log;
    int64_t ttft_ns, itl_ns;
    long per_chunk, fault_every, fault_after, flood_chunks;
    int port, core, free, flood, role_first, no_usage, fault;
    double reasoning;
} opt = {
    .model = "truth", .ttft_ns = 100000000, .itl_ns = 20000000, .per_chunk = 1, .fault_every = 10,
    .fault_after = 3, .flood_chunks = 1, .core = -1,
};

static conn_t *conns[MAX_FDS], *heap[MAX_FDS], *dead;
static long heap_len, active, truths, truths_cap, streams_seen, connections_seen;
static uint64_t turns;
static truth_t *truth;
static int64_t anchor_ns, armed_ns;
static int epoll_fd, timer_fd, listen_fd, signal_fd, stopping;
static char out[OUT_BYTES];

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static void *grown(void *old, size_t size) {
    void *new = realloc(old, size);
    if (!new) die("realloc");
    return new;
}

/* --- who is due next: a binary heap by due time, in order of arrival among equals */

static int before(const conn_t *a, const conn_t *b) {
    return a->due_ns < b->due_ns || (a->due_ns == b->due_ns && a->turn < b->turn);
}

static void put(long at, conn_t *c) {
    heap[at] = c;
    c->place = (int)at;
}

static void sift(long at, conn_t *c) {
    for (long up; at > 0 && before(c, heap[up = (at - 1) / 2]); at = up) put(at, heap[up]);
    for (long down; (down = 2 * at + 1) < heap_len; at = down) {
        if (down + 1 < heap_len && before(heap[down + 1], heap[down])) down++;
        if (!before(heap[down], c)) break;
        put(at, heap[down]);
    }
    put(at, c);
}

static void schedule(conn_t *c, int64_t due_ns) {
    c->due_ns = due_ns;
    if (c->place < 0) c->place = (int)heap_len++;
    sift(c->place, c);
}

static void unschedule(conn_t *c) {
    if (c->place < 0) return;
    conn_t *last = heap[--heap_len];
    if (last != c) sift(c->place, last);
    c->place = -1;
}

/* --- the log */

static int write_log(void) {
    FILE *file = opt.log ? fopen(opt.log, "w") : NULL;
    if (!file) return 0;
    for (long i = 0; i < truths; i++) {
        const truth_t *t = &truth[i];
        fprintf(file, "%ld %ld %d %d %lld %ld %ld %s %s %lld %d", i, t->connection, t->stream,
                t->chat, (long long)t->received_ns, t->prompt_tokens, t->total,
                FAULT_NAMES[t->fault], t->end, (long long)t->ended_ns, t->blocked);
        for (long k = 0; k < t->chunks; k++)
            fprintf(file, " %lld:%u:%u:%u", (long long)t->chunk[k].at_ns, t->chunk[k].late_ns,
                    t->chunk[k].tokens, t->chunk[k].reasoning);
        fputc('\n', file);
    }
    return !fclose(file);
}

static int forget(void) {
    if (active) return 0;
    for (long i = 0; i < truths; i++) free(truth[i].chunk);
    truths = streams_seen = 0;
    return 1;
}

/* --- options */

static int fault_named(const char *name) {
    for (int i = 0; i < FAULTS; i++)
        if (!strcmp(FAULT_NAMES[i], name)) return i;
    fprintf(stderr, "no fault is called %s\n", name);
    exit(2);
}

static void options(int argc, char **argv) {
    static const struct option LONG[] = {
        {"port", 1, 0, 'p'},           /* 0: any that is free, printed on standard output */
        {"model", 1, 0, 'm'},          {"log", 1, 0, 'l'},
        {"core", 1, 0, 'c'},           {"ttft-ms", 1, 0, 't'},
        {"itl-ms", 1, 0, 'i'},         /* between two tokens of a stream */
        {"tokens-per-chunk", 1, 0, 'k'},
        {"step", 0, 0, 's'},           {"free", 0, 0, 'f'}, /* each stream by its own arrival */
        {"flood", 1, 0, 'F'},          /* as fast as the socket takes, so many chunks a send */
        {"role-first", 0, 0, 'r'},     {"reasoning-fraction", 1, 0, 'R'},
        {"no-usage", 0, 0, 'u'},       {"fault", 1, 0, 'x'},
        {"fault-every", 1, 0, 'e'},    /* counted over streamed requests */
        {"fault-after", 1, 0, 'a'},    /* tokens */
        {0},
    };
    for (int o; (o = getopt_long(argc, argv, "", LONG, NULL)) != -1;) {
        switch (o) {
        case 'p': opt.port = atoi(optarg); break;
        case 'm': opt.model = optarg; break;
        case 'l': opt.log = optarg; break;
        case 'c': opt.core = atoi(optarg); break;
        case 't': opt.ttft_ns = (int64_t)(atof(optarg) * 1e6); break;
        case 'i': opt.itl_ns = (int64_t)(atof(optarg) * 1e6); break;
        case 'k': opt.per_chunk = atol(optarg); break;
        case 's': opt.free = 0; break;
        case 'f': opt.free = 1; break;
        case 'F': opt.flood = 1, opt.flood_chunks = atol(optarg); break;
        case 'r': opt.role_first = 1; break;
        case 'R': opt.reasoning = atof(optarg); break;
        case 'u': opt.no_usage = 1; break;
        case 'x': opt.fault = fault_named(optarg); break;
        case 'e': opt.fault_every = atol(optarg); break;
        case 'a': opt.fault_after = atol(optarg); break;
        default: exit(2);
        }
    }
    if (opt.per_chunk < 1 || opt.per_chunk > MAX_CHUNK_TOKENS || opt.fault_every < 1 ||
        opt.flood_chunks < 1 || opt.flood_chunks > MAX_FLOOD || optind < argc) {
        fprintf(stderr, "an option is out of its range\n");
        exit(2);
    }
}

#endif
