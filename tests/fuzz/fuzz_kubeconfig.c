// SPDX-License-Identifier: Apache-2.0
// Kubeconfigs, as the client reads them and as webhooks are configured by them: there is a client
// or a message.
#include "apiserver/auth/ask.h"
#include "base/loop.h"
#include "client/https.h"
#include "fuzz.h"
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void try_client(const char *path)
{
    static struct kl_loop *loop;
    struct kl_client *c = NULL;
    struct kl_error err = {0};
    if (!loop)
        FUZZ_CHECK(!kl_loop_new("fuzz", &loop, &err), "%s", err.msg);
    if (kl_client_from_kubeconfig(loop, path, NULL, NULL, &c, &err)) {
        FUZZ_CHECK(!c && err.msg[0], "no message");
        return;
    }
    kl_client_free(c);
    for (int i = 0; i < 3; i++) // what was closed is gone
        uv_run(kl_loop_uv(loop), UV_RUN_NOWAIT);
}

static void try_remote(const char *path)
{
    struct kl_remote *r = NULL;
    struct kl_error err = {0};
    if (kl_remote_from_kubeconfig(path, &r, &err))
        FUZZ_CHECK(!r && err.msg[0], "no message");
    else
        FUZZ_CHECK(kl_remote_url(r).n, "no URL");
    kl_remote_unref(r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static char path[64];
    // A name of a file in it would be opened: only what a file itself says is looked at.
    if (size > 65536 || memmem(data, size, "dev", 3) || memmem(data, size, "proc", 4))
        return 0;
    if (fd < 0) {
        setenv("SSL_CERT_FILE", "/dev/null", 1); // the system's CAs need not be read each time
        setenv("SSL_CERT_DIR", "/dev/null", 1);
        fd = memfd_create("kubeconfig", MFD_CLOEXEC);
        snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    }
    FUZZ_CHECK(!ftruncate(fd, 0) && pwrite(fd, data, size, 0) == (ssize_t)size, "memfd");
    try_client(path);
    try_remote(path);
    return 0;
}
