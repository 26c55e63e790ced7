/* A ground-truth server: answers like an OpenAI-compatible engine and logs when each chunk left.
 *
 * One thread, epoll, 127.0.0.1. Every chunk is one send(); its true time is taken right before it,
 * on CLOCK_MONOTONIC. By default all streams step together on one clock, as those of a batching
 * engine do, so that a wave of them leaves in one burst: the hardest case for a client.
 *
 * See options() for what it can be told. POST /log writes the log, POST /reset forgets it. A line
 * of the log is one generation request:
 *   index connection stream chat received_ns prompt_tokens asked_tokens fault end ended_ns blocked
 * and then for each chunk at_ns:late_ns:tokens:reasoning, late by the server's own schedule. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "answer.h"

/* --- sending */

static void finish(conn_t *c, const char *end) {
    if (c->request < 0) return;
    if (!truth[c->request].ended_ns) { /* a stalled one has ended before its client leaves */
        truth[c->request].end = end;
        truth[c->request].ended_ns = now_ns();
    }
    c->request = -1;
    active--;
    unschedule(c);
}

static void drop(conn_t *c, const char *end) {
    if (c->fd < 0) return;
    finish(c, end);
    close(c->fd);
    conns[c->fd] = NULL;
    c->fd = -1;
    c->next_dead = dead; /* freed after this round of events, which may still name it */
    dead = c;
}

static void want(conn_t *c, int writing) {
    struct epoll_event event = {.events = EPOLLIN | (writing ? EPOLLOUT : 0), .data.fd = c->fd};
    c->waiting = writing;
    if (epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event)) die("epoll_ctl");
}

/* Send now what the socket takes and keep the rest for when it has room. */
static void transmit(conn_t *c, const char *data, size_t length) {
    size_t done = 0;
    if (!c->waiting) {
        ssize_t n = send(c->fd, data, length, MSG_NOSIGNAL);
        if (n < 0 && errno != EAGAIN) {
            drop(c, "gone");
            return;
        }
        done = n < 0 ? 0 : (size_t)n;
    }
    if (done == length) return;
    if (c->request >= 0) truth[c->request].blocked++;
    c->out = grown(c->out, c->out_len + length - done);
    memcpy(c->out + c->out_len, data + done, length - done);
    c->out_len += length - done;
    if (!c->waiting) want(c, 1);
}

static void flush(conn_t *c) {
    ssize_t n = send(c->fd, c->out + c->out_at, c->out_len - c->out_at, MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN) {
        drop(c, "gone");
        return;
    }
    c->out_at += n < 0 ? 0 : (size_t)n;
    if (c->out_at < c->out_len) return;
    c->out_at = c->out_len = 0;
    want(c, 0);
    if (c->request >= 0 && truth[c->request].ended_ns == 0) schedule(c, c->due_ns);
}

static void respond(conn_t *c, const char *status, const char *body) {
    char head[256];
    int n = snprintf(head, sizeof head,
                     "HTTP/1.1 %s\r\nserver: truth\r\ncontent-type: application/json\r\n"
                     "content-length: %zu\r\n\r\n", status, strlen(body));
    char *whole = grown(NULL, (size_t)n + strlen(body));
    memcpy(whole, head, (size_t)n);
    memcpy(whole + n, body, strlen(body));
    transmit(c, whole, (size_t)n + strlen(body));
    free(whole);
}

static uint32_t lateness(int64_t ns) {
    return ns < 0 ? 0 : ns > UINT32_MAX ? UINT32_MAX : (uint32_t)ns;
}

static void answer_whole(conn_t *c) {
    truth_t *t = &truth[c->request];
    char *body = grown(NULL, 2048 + 16 * (size_t)t->total), *p = body;
    p += sprintf(p, "{\"id\":\"%032lx\",\"object\":\"%s\",\"created\":%ld,\"model\":\"%.200s\",",
                 c->request, t->chat ? "chat.completion" : "text_completion", (long)time(NULL),
                 opt.model);
    p = text(p, "\"choices\":[{\"index\":0,");
    p = text(p, t->chat ? "\"message\":{\"role\":\"assistant\",\"content\":\"" : "\"text\":\"");
    p = text(words(p, c, t->total), t->chat ? "\"}," : "\",");
    c->sent = t->total;
    p = usage(text(p, "\"logprobs\":null,\"finish_reason\":\"length\"}],\"usage\":"), c);
    *text(p, "}") = 0;
    int64_t at = now_ns();
    t->chunk[t->chunks++] = (chunk_t){at, lateness(at - c->due_ns), (uint32_t)t->total, 0};
    respond(c, "200 OK", body);
    free(body);
    finish(c, "done");
}

static void consider(conn_t *c);

/* --- answering */

/* Let the fault happen. */
static void misbehave(conn_t *c, int fault) {
    char *p = stream_head(out, c);
    if (fault == STALL) {
        truth[c->request].end = "stall";
        truth[c->request].ended_ns = now_ns();
        unschedule(c);
        return;
    }
    if (fault == CUT) {
        drop(c, "cut");
        return;
    }
    if (fault == ERROR) {
        p = plain_event(p, "data: {\"error\":{\"message\":\"scripted failure\",\"code\":500}}\n\n");
        p = text(plain_event(p, "data: [DONE]\n\n"), "0\r\n\r\n");
    } else {
        p = text(plain_event(p, "data: {\xff\xfe not json\n\n"), "0\r\n\r\n");
    }
    finish(c, FAULT_NAMES[fault]);
    transmit(c, out, (size_t)(p - out));
}

static int is_stopping(int fault) {
    return fault == STALL || fault == CUT || fault == ERROR || fault == GARBAGE;
}

/* Tokens of the next chunk: none spans the end of the reasoning. */
static long next_size(const conn_t *c, const truth_t *t) {
    long border = c->sent < c->reasoning ? c->reasoning : t->total;
    return border - c->sent < opt.per_chunk ? border - c->sent : opt.per_chunk;
}

/* Send what is due on a stream: one chunk, or several in one go when flooding. */
static void advance(conn_t *c) {
    truth_t *t = &truth[c->request];
    if (!t->stream) {
        answer_whole(c);
        return;
    }
    if (is_stopping(t->fault) && c->sent >= opt.fault_after) {
        misbehave(c, t->fault);
        return;
    }
    long first = t->chunks, batch = opt.flood ? opt.flood_chunks : 1;
    char *p = stream_head(out, c);
    while (batch-- && c->sent < t->total) {
        long size = next_size(c, t);
        int reasoning = c->sent < c->reasoning;
        t->chunk[t->chunks++] = (chunk_t){.tokens = (uint32_t)size, .reasoning = (uint32_t)reasoning};
        p = token_event(p, c, size, reasoning, "null");
    }
    int over = c->sent >= t->total;
    int64_t at = now_ns();
    uint32_t late_ns = opt.flood ? 0 : lateness(at - c->due_ns);
    for (long i = first; i < t->chunks; i++) {
        t->chunk[i].at_ns = at;
        t->chunk[i].late_ns = late_ns;
    }
    if (!over) c->due_ns = opt.flood ? at : c->first_ns + c->sent * opt.itl_ns;
    transmit(c, out, (size_t)(p - out));
    if (c->fd < 0) return;
    if (over) {
        p = closing(out, c, t->fault);
        finish(c, "done");
        transmit(c, out, (size_t)(p - out));
        consider(c);
    } else if (c->waiting) {
        unschedule(c);
    } else {
        schedule(c, c->due_ns);
    }
}

/* When the first token is due. Streams that come while others are served join their clock, at
 * the last step that is not later than their own time to first token. */
static int64_t first_step(int64_t received_ns) {
    int64_t due = received_ns + opt.ttft_ns;
    if (opt.free || opt.flood || !opt.itl_ns) return due;
    if (active == 1) anchor_ns = due; /* this one alone: it sets the clock */
    int64_t past = (due - anchor_ns) % opt.itl_ns;
    due -= past < 0 ? past + opt.itl_ns : past;
    return due < received_ns ? due + opt.itl_ns : due;
}

static truth_t *new_truth(conn_t *c) {
    if (truths == truths_cap) {
        truths_cap = truths_cap ? 2 * truths_cap : 4096;
        truth = grown(truth, (size_t)truths_cap * sizeof *truth);
    }
    truth_t *t = &truth[truths];
    *t = (truth_t){
        .connection = c->id, .prompt_tokens = c->asked.prompt_tokens, .total = c->asked.tokens,
        .stream = c->asked.stream, .chat = c->asked.chat, .received_ns = c->received_ns,
        .end = "open", .fault = NONE,
    };
    t->chunk = grown(NULL, (size_t)(t->total + 2) * sizeof *t->chunk);
    if (t->stream && ++streams_seen % opt.fault_every == 0) t->fault = opt.fault;
    return t;
}

static void admit(conn_t *c) {
    truth_t *t = new_truth(c);
    c->request = truths++;
    c->sent = 0;
    c->head_sent = 0;
    c->reasoning = t->chat ? (long)(opt.reasoning * (double)t->total + 0.5) : 0;
    c->turn = turns++;
    active++;
    make_prefix(c);
    if (t->fault == HTTP_500) {
        finish(c, "http_500");
        respond(c, "500 Internal Server Error",
                "{\"error\":{\"message\":\"scripted failure\",\"code\":500}}");
        return;
    }
    c->first_ns = first_step(c->received_ns);
    int64_t whole = t->stream ? 0 : (t->total - 1) * opt.itl_ns;
    schedule(c, c->first_ns + (opt.flood ? 0 : whole));
    if (opt.role_first && t->stream && t->chat) {
        char body[EVENT_BYTES];
        char *p = body + c->prefix_len - strlen("null,");
        memcpy(body, c->prefix, c->prefix_len);
        p = text(p, "\"assistant\",\"content\":\"\",\"reasoning_content\":null,\"tool_calls\":null},"
                    "\"logprobs\":null,\"finish_reason\":null}],\"usage\":null}\n\n");
        p = event(stream_head(out, c), body, p);
        transmit(c, out, (size_t)(p - out));
    }
}

/* --- requests */

static void answer(conn_t *c, const http_t *http, const char *body) {
    char said[512];
    const char *path = http->path;
    int post = !strcmp(http->method, "POST"), chat = !strcmp(path, "/v1/chat/completions");
    if (post && (chat || !strcmp(path, "/v1/completions"))) {
        if (!read_asked(body, http->body_len, chat, &c->asked))
            respond(c, "400 Bad Request", "{\"error\":{\"message\":\"not JSON that I know\"}}");
        else if (c->asked.tokens > MAX_TOKENS)
            respond(c, "400 Bad Request", "{\"error\":{\"message\":\"too many tokens\"}}");
        else
            admit(c);
    } else if (post && !strcmp(path, "/log")) {
        int ok = write_log();
        snprintf(said, sizeof said, "{\"requests\":%ld,\"active\":%ld}", truths, active);
        respond(c, ok ? "200 OK" : "500 Internal Server Error", said);
    } else if (post && !strcmp(path, "/reset")) {
        respond(c, forget() ? "200 OK" : "409 Conflict", "{}");
    } else if (!strcmp(path, "/v1/models")) {
        snprintf(said, sizeof said,
                 "{\"object\":\"list\",\"data\":[{\"id\":\"%.200s\",\"object\":\"model\",\"created\":0,"
                 "\"owned_by\":\"truth\",\"max_model_len\":1048576}]}", opt.model);
        respond(c, "200 OK", said);
    } else if (!strcmp(path, "/health") || !strcmp(path, "/flush_cache")) {
        respond(c, "200 OK", "{}");
    } else {
        respond(c, "404 Not Found", "{\"error\":{\"message\":\"no such path\"}}");
    }
}

/* Answer the request that has arrived whole, if one has and none is being answered. */
static void consider(conn_t *c) {
    http_t http;
    while (c->fd >= 0 && c->request < 0 && c->in_len) {
        int known = read_head(c->in, c->in_len, &http);
        if (known < 0 || http.unsupported) drop(c, "garbage");
        if (known < 1 || http.unsupported) return;
        size_t whole = http.head_len + http.body_len;
        if (c->in_len < whole) {
            if (http.expects_continue && c->in_len == http.head_len)
                transmit(c, "HTTP/1.1 100 Continue\r\n\r\n", 25);
            return;
        }
        answer(c, &http, c->in + http.head_len);
        if (c->fd < 0) return;
        memmove(c->in, c->in + whole, c->in_len - whole);
        c->in_len -= whole;
    }
}

/* Take the bytes and the time; what they mean is for later, when all that arrived is stamped. */
static void receive(conn_t *c) {
    if (c->in_len + 1 >= c->in_cap) {
        c->in_cap = c->in_cap ? 2 * c->in_cap : 8192;
        c->in = grown(c->in, c->in_cap);
    }
    ssize_t n = recv(c->fd, c->in + c->in_len, c->in_cap - c->in_len - 1, 0);
    c->received_ns = now_ns();
    if (n > 0) {
        c->in_len += (size_t)n;
        c->in[c->in_len] = 0; /* for sscanf and strtoul, which must stop */
    } else if (n == 0 || errno != EAGAIN) {
        drop(c, "gone");
    }
}

static void accept_all(void) {
    int fd, on = 1;
    while ((fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        conn_t *c = fd < MAX_FDS ? calloc(1, sizeof *c) : NULL;
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (!c) die("too many connections");
        *c = (conn_t){.fd = fd, .place = -1, .request = -1, .id = connections_seen++};
        conns[fd] = c;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) die("epoll_ctl");
    }
}

/* --- the loop */

static int ready(int timeout_ms) {
    static struct epoll_event events[EVENTS];
    int n = epoll_wait(epoll_fd, events, EVENTS, timeout_ms);
    uint64_t ticks;
    conn_t *heard[EVENTS];
    int count = 0;
    for (int i = 0; i < n; i++) {
        int fd = events[i].data.fd;
        conn_t *c = conns[fd];
        if (fd == listen_fd) accept_all();
        else if (fd == signal_fd) stopping = 1;
        else if (fd == timer_fd) armed_ns = read(timer_fd, &ticks, sizeof ticks) ? 0 : armed_ns;
        else if (c && events[i].events & EPOLLOUT && c->waiting) flush(c);
        if (c && c->fd >= 0 && events[i].events & ~(uint32_t)EPOLLOUT) {
            receive(c);
            heard[count++] = c;
        }
    }
    for (int i = 0; i < count; i++) consider(heard[i]);
    while (dead) {
        conn_t *c = dead;
        dead = c->next_dead;
        free(c->in), free(c->out), free(c);
    }
    return n;
}

/* Wait for bytes or for the next chunk's time, whichever is first. */
static void rest(void) {
    int64_t due = heap_len ? heap[0]->due_ns : 0;
    if (due && due <= now_ns()) {
        ready(0);
        return;
    }
    if (due != armed_ns) {
        struct itimerspec at = {.it_value = {due / 1000000000, due % 1000000000}};
        if (timerfd_settime(timer_fd, TFD_TIMER_ABSTIME, &at, NULL)) die("timerfd_settime");
        armed_ns = due;
    }
    ready(-1);
}

static void serve(void) {
    while (!stopping) {
        rest();
        for (int i = 0; i < SENDS_PER_TURN && heap_len && heap[0]->due_ns <= now_ns(); i++)
            advance(heap[0]);
    }
}

static void watch(int fd) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    if (fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event)) die("epoll");
}

static void set_up(void) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port),
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };
    socklen_t length = sizeof address;
    struct rlimit files;
    int on = 1;
    sigset_t signals;
    prctl(PR_SET_PDEATHSIG, SIGTERM); /* never outlive whoever started us */
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max < MAX_FDS ? files.rlim_max : MAX_FDS;
    setrlimit(RLIMIT_NOFILE, &files);
    if (opt.core >= 0) {
        cpu_set_t cores;
        CPU_ZERO(&cores);
        CPU_SET((size_t)opt.core, &cores);
        if (sched_setaffinity(0, sizeof cores, &cores)) die("sched_setaffinity");
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    signal_fd = signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
    timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listen_fd, (struct sockaddr *)&address, sizeof address)) die("bind");
    if (listen(listen_fd, 4096)) die("listen");
    watch(listen_fd), watch(signal_fd), watch(timer_fd);
    getsockname(listen_fd, (struct sockaddr *)&address, &length);
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
}

int main(int argc, char **argv) {
    options(argc, argv);
    set_up();
    serve();
    return opt.log && !write_log();
}
