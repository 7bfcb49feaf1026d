/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CRC-32 of Ethernet (IEEE 802.3 3.2.9): eight bytes at a time from tables, or, where the processor
 * multiplies polynomials, by folding 64 bytes at a time (Gopal and others, "Fast CRC Computation
 * for Generic Polynomials Using PCLMULQDQ Instruction", Intel 2009; bit-reflected).
 */
#include <string.h>

#include "net/net.h"

enum { SLICES = 8 };
#define CRC_POLY 0xedb88320u

static uint32_t crc_table[SLICES][256];

static void crc_init(void)
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t c = i;

        for (int bit = 0; bit < 8; bit++) {
            c = c >> 1 ^ ((c & 1) != 0 ? CRC_POLY : 0);
        }
        crc_table[0][i] = c;
    }
    for (int s = 1; s < SLICES; s++) {
        for (uint32_t i = 0; i < 256; i++) {
            crc_table[s][i] = crc_table[s - 1][i] >> 8 ^ crc_table[0][crc_table[s - 1][i] & 255];
        }
    }
}

static uint32_t by_table(uint32_t crc, const uint8_t *p, size_t len)
{
    if (crc_table[0][1] == 0) {
        crc_init();
    }
    for (; len >= SLICES; p += SLICES, len -= SLICES) {
        uint32_t a, b;

        memcpy(&a, p, 4);
        memcpy(&b, p + 4, 4);
        a ^= crc;
        crc = crc_table[7][a & 255] ^ crc_table[6][a >> 8 & 255] ^ crc_table[5][a >> 16 & 255] ^
              crc_table[4][a >> 24] ^ crc_table[3][b & 255] ^ crc_table[2][b >> 8 & 255] ^
              crc_table[1][b >> 16 & 255] ^ crc_table[0][b >> 24];
    }
    for (; len > 0; p++, len--) {
        crc = crc >> 8 ^ crc_table[0][(crc ^ *p) & 255];
    }
    return crc;
}

#if defined(__x86_64__)
#include <wmmintrin.h>

enum { FOLD = 64 };

static inline __m128i load(const uint8_t *p)
{
    return _mm_loadu_si128((const __m128i *)(const void *)p);
}

/* x, moved on by the distance that k stands for, plus y. */
__attribute__((target("pclmul"))) static inline __m128i fold(__m128i x, __m128i y, __m128i k)
{
    __m128i low = _mm_clmulepi64_si128(x, k, 0x00);
    __m128i high = _mm_clmulepi64_si128(x, k, 0x11);

    return _mm_xor_si128(_mm_xor_si128(low, high), y);
}

/* len >= FOLD. What remains after folding is 16 bytes with the same CRC, and a tail: for the
 * tables. */
__attribute__((target("pclmul"))) static uint32_t by_folding(uint32_t crc, const uint8_t *p,
                                                             size_t len)
{
    /* x^(512+32), x^(512-32) and x^(128+32), x^(128-32) modulo the polynomial, reflected. */
    const __m128i k512 = _mm_set_epi64x(0x1c6e41596, 0x154442bd4);
    const __m128i k128 = _mm_set_epi64x(0x0ccaa009e, 0x1751997d0);
    __m128i x0 = _mm_xor_si128(load(p), _mm_cvtsi32_si128((int)crc));
    __m128i x1 = load(p + 16), x2 = load(p + 32), x3 = load(p + 48);
    uint8_t rest[16];

    for (p += FOLD, len -= FOLD; len >= FOLD; p += FOLD, len -= FOLD) {
        x0 = fold(x0, load(p), k512);
        x1 = fold(x1, load(p + 16), k512);
        x2 = fold(x2, load(p + 32), k512);
        x3 = fold(x3, load(p + 48), k512);
    }
    x0 = fold(fold(fold(x0, x1, k128), x2, k128), x3, k128);
    for (; len >= 16; p += 16, len -= 16) {
        x0 = fold(x0, load(p), k128);
    }
    _mm_storeu_si128((__m128i *)(void *)rest, x0);
    return by_table(by_table(0, rest, sizeof(rest)), p, len);
}

static bool can_fold(void)
{
    return __builtin_cpu_supports("pclmul");
}
#else
enum { FOLD = 64 };

static uint32_t by_folding(uint32_t crc, const uint8_t *p, size_t len)
{
    return by_table(crc, p, len);
}

static bool can_fold(void)
{
    return false;
}
#endif

uint32_t net_fcs(const uint8_t *frame, size_t len)
{
    return ~(len >= FOLD && can_fold() ? by_folding(0xffffffff, frame, len)
                                       : by_table(0xffffffff, frame, len));
}

uint32_t net_crc_msb(const uint8_t *p, size_t len)
{
    uint32_t crc = ~net_fcs(p, len);
    uint32_t out = 0;

    for (int i = 0; i < 32; i++) {
        out |= (crc >> i & 1) << (31 - i);
    }
    return out;
}
