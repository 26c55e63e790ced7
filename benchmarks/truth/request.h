/* Reading requests: just enough HTTP/1.1, and just enough JSON to know what is asked.
 *
 * A prompt token is one byte of decoded prompt text, or one id where the prompt is a list of ids;
 * a chat adds CHAT_OVERHEAD. */
#ifndef TRUTH_REQUEST_H
#define TRUTH_REQUEST_H

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { CHAT_OVERHEAD = 5, DEFAULT_TOKENS = 16, MAX_DEPTH = 32 };

typedef struct {
    int chat, stream, include_usage, continuous_usage;
    long tokens, prompt_tokens;
} asked_t;

typedef enum { TOP, MESSAGES, TEXT, PROMPT, OPTIONS, SKIP } place_t;

typedef struct {
    const char *at, *end;
    asked_t *asked;
    int bad, depth;
} json_t;

static void json_space(json_t *j) {
    while (j->at < j->end && strchr(" \t\r\n", *j->at)) j->at++;
}

static int json_take(json_t *j, char what) {
    json_space(j);
    if (j->at >= j->end || *j->at != what) return 0;
    j->at++;
    return 1;
}

/* The decoded length in bytes; the raw text, for comparing keys, goes to *raw. */
static long json_string(json_t *j, const char **raw, size_t *raw_len) {
    long length = 0;
    if (!json_take(j, '"')) {
        j->bad = 1;
        return 0;
    }
    *raw = j->at;
    while (j->at < j->end && *j->at != '"') {
        if (*j->at != '\\') {
            length++, j->at++;
        } else if (j->at + 5 < j->end && j->at[1] == 'u') {
            char digits[5] = {j->at[2], j->at[3], j->at[4], j->at[5], 0};
            long code = strtol(digits, NULL, 16);
            int surrogate = code >= 0xD800 && code < 0xE000; /* two of them make four bytes */
            length += code < 0x80 ? 1 : code < 0x800 || surrogate ? 2 : 3;
            j->at += 6;
        } else {
            length++, j->at += 2;
        }
    }
    if (j->at >= j->end) {
        j->bad = 1;
        return 0;
    }
    *raw_len = (size_t)(j->at - *raw);
    j->at++;
    return length;
}

static int is_key(const char *raw, size_t length, const char *name) {
    return strlen(name) == length && !memcmp(raw, name, length);
}

static place_t json_place(place_t in, const char *raw, size_t n) {
    if (in == TOP && is_key(raw, n, "messages")) return MESSAGES;
    if (in == TOP && is_key(raw, n, "prompt")) return PROMPT;
    if (in == TOP && is_key(raw, n, "stream_options")) return OPTIONS;
    if (in == MESSAGES && is_key(raw, n, "content")) return TEXT;
    if (in == TEXT && is_key(raw, n, "text")) return TEXT;
    return SKIP;
}

static void json_scalar(json_t *j, place_t in, const char *raw, size_t n) {
    const char *start = j->at;
    while (j->at < j->end && !strchr(",]} \t\r\n", *j->at)) j->at++;
    if (start == j->at) j->bad = 1;
    long number = *start == 't' ? 1 : *start == 'f' || *start == 'n' ? 0 : atol(start);
    asked_t *asked = j->asked;
    if (in == PROMPT) asked->prompt_tokens++;
    if (in == TOP && is_key(raw, n, "stream")) asked->stream = number != 0;
    if (in == TOP && number > 0 &&
        (is_key(raw, n, "max_tokens") || is_key(raw, n, "max_completion_tokens")))
        asked->tokens = number;
    if (in == OPTIONS && is_key(raw, n, "include_usage")) asked->include_usage = number != 0;
    if (in == OPTIONS && is_key(raw, n, "continuous_usage_stats"))
        asked->continuous_usage = number != 0;
}

/* One value; `in` is where it stands, `raw` the key that it stands under. */
static void json_value(json_t *j, place_t in, place_t below, const char *raw, size_t n) {
    const char *key = "";
    size_t key_len = 0;
    json_space(j);
    if (j->at >= j->end || ++j->depth > MAX_DEPTH) {
        j->bad = 1;
        return;
    }
    if (*j->at == '"') {
        long length = json_string(j, &key, &key_len);
        if (below == TEXT || below == PROMPT) j->asked->prompt_tokens += length;
    } else if (json_take(j, '{')) {
        if (!json_take(j, '}')) {
            do {
                json_string(j, &key, &key_len);
                if (!json_take(j, ':')) j->bad = 1;
                if (!j->bad) json_value(j, below, json_place(below, key, key_len), key, key_len);
            } while (!j->bad && json_take(j, ','));
            if (!json_take(j, '}')) j->bad = 1;
        }
    } else if (json_take(j, '[')) {
        if (!json_take(j, ']')) {
            do json_value(j, below, below, "", 0);
            while (!j->bad && json_take(j, ','));
            if (!json_take(j, ']')) j->bad = 1;
        }
    } else {
        json_scalar(j, below == PROMPT ? PROMPT : in, raw, n);
    }
    j->depth--;
}

/* False when the body is not JSON that we understand. */
static int read_asked(const char *body, size_t length, int chat, asked_t *asked) {
    *asked = (asked_t){.chat = chat, .tokens = DEFAULT_TOKENS};
    if (chat) asked->prompt_tokens = CHAT_OVERHEAD;
    json_t j = {.at = body, .end = body + length, .asked = asked};
    json_value(&j, TOP, TOP, "", 0);
    return !j.bad;
}

typedef struct {
    char method[8], path[256];
    size_t head_len, body_len;
    int expects_continue, unsupported;
} http_t;

static const char *header_value(const char *line, size_t n, const char *name) {
    size_t length = strlen(name);
    if (n <= length || strncasecmp(line, name, length) || line[length] != ':') return NULL;
    line += length + 1;
    while (*line == ' ' || *line == '\t') line++;
    return line;
}

/* 1: the head is complete; 0: more bytes are needed; -1: this is not HTTP. */
static int read_head(const char *in, size_t length, http_t *http) {
    const char *end = memmem(in, length, "\r\n\r\n", 4);
    *http = (http_t){0};
    if (!end) return length > 65536 ? -1 : 0;
    http->head_len = (size_t)(end + 4 - in);
    if (sscanf(in, "%7[A-Z] %255[^ \r\n]", http->method, http->path) != 2) return -1;
    char *query = strchr(http->path, '?');
    if (query) *query = 0;
    const char *line = (const char *)memchr(in, '\n', http->head_len) + 1;
    while (line < end) {
        const char *next = memchr(line, '\n', http->head_len - (size_t)(line - in)), *value;
        size_t n = (size_t)(next - line);
        if ((value = header_value(line, n, "content-length"))) http->body_len = strtoul(value, 0, 10);
        if (header_value(line, n, "transfer-encoding")) http->unsupported = 1;
        if (header_value(line, n, "expect")) http->expects_continue = 1;
        line = next + 1;
    }
    return 1;
}

#endif
