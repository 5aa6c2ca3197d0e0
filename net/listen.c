// SPDX-License-Identifier: Apache-2.0
#include "net/listen.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BACKLOG = 1024 };

static int listen_error(struct kl_error *err, int e, const char *what, const char *addr, int port)
{
    int code = kl_error_errno(err, e, "listen tcp %s:%d: %s", addr, port, what);
    if (e == EADDRINUSE) // net's words
        code = kl_error_set(err, KL_EEXISTS, "listen tcp %s:%d: bind: address already in use", addr,
                            port);
    return code;
}

int kl_listen_tcp(const char *address, int port, int *ret_fd, struct kl_error *err)
{
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    bool any = !address || !address[0];
    const char *shown = any ? "" : address;
    int on = 1, off = 0, fd = -1;
    bool v6 = any || inet_pton(AF_INET6, address, &in6.sin6_addr) == 1;
    if (port < 0 || port > 65535)
        return kl_error_set(err, KL_EINVALID, "listen: bad port %d", port);
    if (!v6 && inet_pton(AF_INET, address, &in.sin_addr) != 1)
        return kl_error_set(err, KL_EINVALID, "listen: %s is not an IP address", shown);
    if (v6)
        fd = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0 && v6 && any && errno == EAFNOSUPPORT)
        v6 = false; // a kernel without IPv6
    if (fd < 0 && !v6)
        fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return listen_error(err, errno, "socket", shown, port);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (v6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    const struct sockaddr *sa = v6 ? (struct sockaddr *)&in6 : (struct sockaddr *)&in;
    if (bind(fd, sa, v6 ? sizeof(in6) : sizeof(in)) || listen(fd, BACKLOG)) {
        int e = errno;
        close(fd);
        return listen_error(err, e, "bind", shown, port);
    }
    *ret_fd = fd;
    return 0;
}

int kl_listen_port(int fd)
{
    struct sockaddr_storage ss;
    socklen_t n = sizeof(ss);
    if (getsockname(fd, (struct sockaddr *)&ss, &n))
        return 0;
    if (ss.ss_family == AF_INET6)
        return ntohs(((struct sockaddr_in6 *)&ss)->sin6_port);
    return ss.ss_family == AF_INET ? ntohs(((struct sockaddr_in *)&ss)->sin_port) : 0;
}
