"""An actor of the soak: it takes uploads and streams downloads, which no built-in one does."""

import busbar

actor = busbar.Actor("soak", threads=4)


@actor.route("POST", "/soak/upload", auth="user", upload=True)
def upload(request):
    return {"size": sum(len(data) for data in request.chunks())}


@actor.route("GET", "/soak/download", auth="user", fields={"size": {"type": "int", "max": 10000000}})
def download(request):
    left = request["size"]
    while left > 0:
        yield b"x" * min(left, 50000)
        left -= 50000


actor.run()
