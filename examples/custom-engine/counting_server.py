"""A server of one's own: it counts, one number a token, over the OpenAI protocol.

``python counting_server.py --port 8000 --model counter --pause-ms 5``
"""

import argparse
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or the first token waits 40 ms for an acknowledgement

    def do_GET(self):
        card = {"id": self.server.model, "object": "model", "max_model_len": 4096}
        self.answer({"object": "list", "data": [card]})

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = sum(len(message["content"].split()) for message in asked["messages"])
        count = asked.get("max_tokens", 16)
        words = [str(number) for number in range(1, count + 1)]
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": count,
            "total_tokens": prompt + count,
        }
        if not asked.get("stream"):
            time.sleep(count * self.server.pause_s)
            message = {"role": "assistant", "content": " ".join(words)}
            choice = {"index": 0, "message": message, "finish_reason": "length"}
            self.answer({"model": self.server.model, "choices": [choice], "usage": usage})
            return
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for word in words:
            time.sleep(self.server.pause_s)
            last = word == words[-1]
            choice = {
                "index": 0,
                "delta": {"content": f"{word} "},
                "finish_reason": "length" if last else None,
            }
            self.event({"model": self.server.model, "choices": [choice]})
        self.event({"model": self.server.model, "choices": [], "usage": usage})
        self.chunk(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def event(self, value):
        self.chunk(f"data: {json.dumps(value)}\n\n".encode())

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def answer(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--model", default="counter")
    parser.add_argument("--pause-ms", type=float, default=5.0)
    given = parser.parse_args()
    server = Server(("127.0.0.1", given.port), Handler)
    server.model, server.pause_s = given.model, given.pause_ms / 1000
    print("counting", flush=True)
    server.serve_forever()
