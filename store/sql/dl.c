// SPDX-License-Identifier: Apache-2.0
// What the drivers do alike beside SQL: their libraries, sockets that are shut, names in quotes.
#include "store/sql/driver.h"
#include <dlfcn.h>
#include <sys/socket.h>

static int open_lib(struct kl_sql_lib *l)
{
    void *lib = dlopen(l->soname, RTLD_NOW | RTLD_LOCAL);
    if (!lib)
        return kl_error_set(&l->err, KL_EUNSUPPORTED,
                            "this kind of datastore needs the library %s: install the package %s "
                            "(%s)",
                            l->soname, l->package, dlerror());
    for (size_t i = 0; i < l->nsymbols; i++) {
        void *fn = dlsym(lib, l->symbols[i].name);
        if (!fn)
            return kl_error_set(&l->err, KL_EUNSUPPORTED,
                                "the library %s is too old, it has no %s: install a newer package "
                                "%s",
                                l->soname, l->symbols[i].name, l->package);
        *l->symbols[i].fn = fn;
    }
    return !l->start || l->start()
               ? 0
               : kl_error_set(&l->err, KL_ENOMEM, "the library %s does not start", l->soname);
}

int kl_sql_lib_open(struct kl_sql_lib *l, struct kl_error *err)
{
    pthread_mutex_lock(&l->mu);
    if (!l->tried)
        l->code = open_lib(l);
    l->tried = true;
    pthread_mutex_unlock(&l->mu);
    return l->code ? kl_error_set(err, l->code, "%s", l->err.msg) : 0;
}

void kl_sql_interrupt(struct kl_sql_conn *c)
{
    atomic_store(&c->interrupted, true);
    int fd = atomic_load(&c->fd);
    if (fd >= 0)
        shutdown(fd, SHUT_RDWR); // wakes whoever waits for it
}

void kl_sql_put_name(struct kl_buf *b, const char *name, char quote)
{
    kl_buf_putc(b, quote);
    for (const char *p = name; *p; p++) {
        if (*p == quote)
            kl_buf_putc(b, quote);
        kl_buf_putc(b, *p);
    }
    kl_buf_putc(b, quote);
}
