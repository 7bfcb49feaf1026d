/* SPDX-License-Identifier: GPL-2.0-or-later */
/* net/offload.c and net/crc.c: sums and CRCs of every length against the plain definitions. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>

#include <cmocka.h>

#include "net/net.h"

enum { LENGTHS = 600, MAX = 70000 };

static uint8_t data[MAX];

static void fill(void)
{
    uint32_t x = 12345;

    for (size_t i = 0; i < MAX; i++) {
        x = x * 1664525 + 1013904223;
        data[i] = (uint8_t)(x >> 24);
    }
}

/* RFC 1071 as it is written: 16-bit words, odd byte padded with zero. */
static uint16_t plain_sum(const uint8_t *p, size_t len)
{
    uint64_t sum = 0;

    for (size_t i = 0; i < len; i += 2) {
        sum += (uint64_t)p[i] << 8 | (i + 1 < len ? p[i + 1] : 0);
    }
    while (sum >> 16 != 0) {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    return (uint16_t)~sum;
}

/* IEEE 802.3 3.2.9, bit by bit. */
static uint32_t plain_crc(const uint8_t *p, size_t len)
{
    uint32_t crc = 0xffffffff;

    for (size_t i = 0; i < len; i++) {
        crc ^= p[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320u : 0);
        }
    }
    return ~crc;
}

static void test_sum(void **state)
{
    (void)state;
    fill();
    for (size_t len = 0; len < LENGTHS; len++) {
        assert_int_equal(net_csum_fold(net_csum_add(0, data + len % 7, len)),
                         plain_sum(data + len % 7, len));
    }
    assert_int_equal(net_csum_fold(net_csum_add(0, data, NET_FRAME_MAX)),
                     plain_sum(data, NET_FRAME_MAX));
    for (size_t i = 0; i < MAX; i++) { /* as many carries as there can be */
        data[i] = 0xff;
    }
    assert_int_equal(net_csum_fold(net_csum_add(0xffff, data, NET_FRAME_MAX)), 0);
}

static void test_sum_goes_on(void **state)
{
    (void)state;
    fill();
    for (size_t cut = 0; cut <= 200; cut += 2) {
        uint32_t sum = net_csum_add(net_csum_add(0, data, cut), data + cut, 300 - cut);

        assert_int_equal(net_csum_fold(sum), plain_sum(data, 300));
    }
}

static void test_fcs(void **state)
{
    (void)state;
    fill();
    assert_int_equal(net_fcs((const uint8_t *)"123456789", 9), 0xcbf43926); /* the check value */
    for (size_t len = 0; len < LENGTHS; len++) {
        assert_int_equal(net_fcs(data + len % 5, len), plain_crc(data + len % 5, len));
    }
    assert_int_equal(net_fcs(data, 9018), plain_crc(data, 9018));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sum),
        cmocka_unit_test(test_sum_goes_on),
        cmocka_unit_test(test_fcs),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
