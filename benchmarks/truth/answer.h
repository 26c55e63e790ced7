/* What an answer looks like: server-sent events of about 290 bytes, each an HTTP chunk. */
#ifndef TRUTH_ANSWER_H
#define TRUTH_ANSWER_H

#include "state.h"

static char *text(char *to, const char *from) {
    size_t n = strlen(from);
    memcpy(to, from, n);
    return to + n;
}

static char *number(char *to, long value) {
    char digits[24];
    int n = 0;
    do digits[n++] = (char)('0' + value % 10);
    while (value /= 10);
    while (n) *to++ = digits[--n];
    return to;
}

static char *event(char *to, const char *body, const char *end) {
    static const char HEX[] = "0123456789abcdef";
    size_t n = (size_t)(end - body);
    int shift = 0;
    while (n >> (shift + 4)) shift += 4;
    for (; shift >= 0; shift -= 4) *to++ = HEX[n >> shift & 15];
    to = text(to, "\r\n");
    memcpy(to, body, n);
    return text(to + n, "\r\n");
}

static char *usage(char *to, const conn_t *c) {
    long reasoned = c->sent < c->reasoning ? c->sent : c->reasoning;
    to = number(text(to, "{\"prompt_tokens\":"), c->asked.prompt_tokens);
    to = number(text(to, ",\"total_tokens\":"), c->asked.prompt_tokens + c->sent);
    to = number(text(to, ",\"completion_tokens\":"), c->sent);
    to = number(text(to, ",\"prompt_tokens_details\":null,\"reasoning_tokens\":"), reasoned);
    return text(to, "}");
}

static char *words(char *to, const conn_t *c, long count) {
    for (long i = 0; i < count; i++) to = text(to, WORDS[(c->sent + i) & 15]);
    return to;
}

/* The next `count` tokens as one event; zero tokens and a finish reason make the closing one. */
static char *token_event(char *to, conn_t *c, long count, int reasoning, const char *finish) {
    char body[EVENT_BYTES], *p = body;
    memcpy(p, c->prefix, c->prefix_len);
    p += c->prefix_len;
    if (c->asked.chat && !count) {
        p = text(p, "\"content\":null,\"reasoning_content\":null,\"tool_calls\":null},");
    } else if (c->asked.chat) {
        p = text(p, reasoning ? "\"content\":null,\"reasoning_content\":\"" : "\"content\":\"");
        p = words(p, c, count);
        p = text(p, reasoning ? "\",\"tool_calls\":null},"
                              : "\",\"reasoning_content\":null,\"tool_calls\":null},");
    } else {
        p = text(words(text(p, "\"text\":\""), c, count), "\",");
    }
    c->sent += count;
    p = text(text(p, "\"logprobs\":null,\"finish_reason\":"), finish);
    p = text(p, ",\"matched_stop\":null}],\"usage\":");
    int counted = c->asked.include_usage && c->asked.continuous_usage && !opt.no_usage;
    p = counted ? usage(p, c) : text(p, "null");
    return event(to, body, text(p, "}\n\n"));
}

static char *usage_event(char *to, const conn_t *c) {
    char body[EVENT_BYTES], *p = body;
    const char *choices = memmem(c->prefix, c->prefix_len, "\"choices\"", 9);
    memcpy(p, c->prefix, (size_t)(choices - c->prefix));
    p = text(p + (choices - c->prefix), "\"choices\":[],\"usage\":");
    return event(to, body, text(usage(p, c), "}\n\n"));
}

static char *plain_event(char *to, const char *body) {
    return event(to, body, body + strlen(body));
}

static char *closing(char *to, conn_t *c, int fault) {
    if (fault != NO_FINISH) to = token_event(to, c, 0, 0, "\"length\"");
    if (c->asked.include_usage && !opt.no_usage) to = usage_event(to, c);
    if (fault != NO_DONE) to = plain_event(to, "data: [DONE]\n\n");
    return text(to, "0\r\n\r\n");
}

static char *stream_head(char *to, conn_t *c) {
    if (c->head_sent) return to;
    c->head_sent = 1;
    return text(to, "HTTP/1.1 200 OK\r\nserver: truth\r\ncontent-type: text/event-stream; "
                    "charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n");
}

static void make_prefix(conn_t *c) {
    int n = snprintf(c->prefix, sizeof c->prefix,
        "data: {\"id\":\"%032lx\",\"object\":\"%s\",\"created\":%ld,\"model\":\"%.200s\","
        "\"choices\":[{\"index\":0,%s", c->request,
        c->asked.chat ? "chat.completion.chunk" : "text_completion", (long)time(NULL), opt.model,
        c->asked.chat ? "\"delta\":{\"role\":null," : "");
    c->prefix_len = (size_t)n;
}

#endif
