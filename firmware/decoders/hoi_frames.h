/* Reads the serial protocol `frames` of hoi-device (docs/serial.md). C99, nothing is allocated, 1.1 KiB for a reader: call hoi_feed for
 * each byte and take what you need in the callback. hoi_frames.c is an example. */
#ifndef HOI_FRAMES_H
#define HOI_FRAMES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HOI_FRAME, HOI_ERROR, HOI_STATUS, HOI_VOCABULARY };
typedef struct { const uint8_t *at, *end; bool bad; } hoi_cursor; /* the rest of a message; bad: it ended too early */
typedef struct {
    uint8_t buffer[1020]; /* the longest packet without its zero byte */
    size_t length;
    uint32_t next; /* sequence number */
    unsigned long messages, lost, damaged;
} hoi_reader; /* begins as all zeros */
typedef void (*hoi_callback)(uint64_t kind, hoi_cursor *message);

static inline uint8_t hoi_byte(hoi_cursor *c) { return c->at < c->end ? *c->at++ : (c->bad = true, 0); }
static inline uint64_t hoi_varint(hoi_cursor *c) {
    uint64_t value = 0, byte = 128;
    for (int shift = 0; byte & 128 && shift < 64; shift += 7) value |= ((byte = hoi_byte(c)) & 127) << shift;
    return value;
}
static inline const char *hoi_text(hoi_cursor *c, int *length) { /* no zero ends it; empty where too long */
    uint64_t n = hoi_varint(c);
    if (n > (uint64_t)(c->end - c->at)) c->bad = true, n = 0;
    c->at += n, *length = (int)n;
    return (const char *)c->at - n;
}
static inline size_t hoi_unstuff(uint8_t *bytes, size_t length) { /* COBS, in place; 0: broken */
    size_t in = 0, out = 0;
    while (in < length) {
        size_t end = in + bytes[in], code = bytes[in++];
        if (end > length) return 0;
        while (in < end) bytes[out++] = bytes[in++];
        if (code < 255 && in < length) bytes[out++] = 0;
    }
    return out;
}
static inline uint16_t hoi_crc(const uint8_t *bytes, size_t length) { /* CRC-16/IBM-3740 */
    uint16_t crc = 0xFFFF;
    for (size_t bit = 0; bit < 8 * length; bit++) {
        if (bit % 8 == 0) crc ^= (uint16_t)(bytes[bit / 8] << 8);
        crc = (uint16_t)(crc & 0x8000 ? crc << 1 ^ 0x1021 : crc << 1);
    }
    return crc;
}
static inline void hoi_feed(hoi_reader *r, uint8_t byte, hoi_callback callback) {
    if (byte) { /* a packet that is too long stays so until the next zero byte */
        if (r->length < sizeof r->buffer) r->buffer[r->length] = byte;
        r->length += r->length <= sizeof r->buffer;
        return;
    }
    size_t length = r->length, n = length > sizeof r->buffer ? 0 : hoi_unstuff(r->buffer, length);
    const uint8_t *b = r->buffer;
    r->length = 0;
    if (!length) return;
    if (n < 8 || hoi_crc(b, n - 2) != (b[n - 2] | b[n - 1] << 8) || b[0] != 1) { r->damaged++; return; }
    hoi_cursor message = { b + 5, b + n - 2, false };
    uint64_t kind = hoi_varint(&message);
    if (message.bad) { r->damaged++; return; }
    uint32_t sequence = b[1] | (uint32_t)b[2] << 8 | (uint32_t)b[3] << 16 | (uint32_t)b[4] << 24;
    if (r->messages++) r->lost += sequence - (sequence < r->next ? 0 : r->next); /* a smaller number: the device began anew */
    r->next = sequence + 1;
    callback(kind, &message);
}
#endif
