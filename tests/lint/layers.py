# SPDX-License-Identifier: Apache-2.0
"""A folder includes only folders below it, and nobody else's _int.h."""
import re
from lint import FOLDERS, run

CLIENTS = {"store", "watchcache", "apiserver"}  # what thin clients must not see
SYSTEM = re.compile(r"<net/(if|if_arp|if_packet|ethernet|route)\.h>")  # the C library's net/
FORBIDDEN = {"object": {"net"}, "controllers": CLIENTS, "scheduler": CLIENTS,
             "kubelet": CLIENTS, "network": CLIENTS}


def check(path, text):
    own = path.split("/")[0]
    if own not in FOLDERS:
        return
    for number, line in enumerate(text.split("\n"), 1):
        include = re.match(r'\s*#\s*include\s*[<"]([^>"]+)[>"]', line)
        if not include or SYSTEM.search(line):
            continue
        what = include.group(1)
        other = what.split("/")[0]
        if what.startswith("../"):
            yield number, f"{what}: write the path from the top of the tree"
        elif other in FOLDERS and "/" in what and other != own:
            if FOLDERS.index(other) > FOLDERS.index(own) or other in FORBIDDEN.get(own, ()):
                yield number, f"{own} must not include {what}"
            elif what.endswith("_int.h"):
                yield number, f"{what} is internal to {other}"
        elif other == "tests":
            yield number, f"{own} must not include {what}"


BAD = [("base/x.c", '#include "net/tcp.h"\n'),
       ("object/x.c", '#include "net/tcp.h"\n'),
       ("net/x.h", '#include "object/value.h"\n'),
       ("controllers/x.c", '#include "store/store.h"\n'),
       ("scheduler/x.c", '#  include "watchcache/cache.h"\n'),
       ("kubelet/x.c", '#include <apiserver/server.h>\n'),
       ("network/x.c", 'int x;\n#include "store/store.h"\n'),
       ("store/sqlite/x.c", '#include "client/client.h"\n'),
       ("client/x.c", '#include "net/conn_int.h"\n'),
       ("client/x.c", '#include "../base/str.h"\n'),
       ("base/x.c", '#include "tests/unit/x.h"\n')]
GOOD = [("store/sqlite/x.c", '#include "store/store_int.h"\n#include "base/str.h"\n'),
        ("object/x.c", '#include <net/if.h>\n'),
        ("controllers/x.c", '#include "client/client.h"\n#include "object/value.h"\n'),
        ("cli/x.c", '#include "apiserver/server.h"\n#include "store/store.h"\n'),
        ("tests/unit/x.c", '#include "base/str_int.h"\n'),
        ("base/x.c", '// #include "net/tcp.h" is not allowed here\n')]
run(check, BAD, GOOD)
