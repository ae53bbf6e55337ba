/* Prints what hoi-device says with the serial protocol `frames`, from a serial port or a file.
 *   cc -std=c99 -O2 -o hoi_frames hoi_frames.c && ./hoi_frames /dev/ttyUSB0 115200 */
#define _DEFAULT_SOURCE
#include "hoi_frames.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

static char names[2][512][64]; /* verbs, classes */
static unsigned vocabulary;    /* the one that they belong to */

static void print_place(hoi_cursor *c, int list, unsigned of) { /* what it is and its box */
    unsigned i = (unsigned)hoi_varint(c);
    if (of == vocabulary && i < 512 && names[list][i][0]) printf(" %s", names[list][i]);
    else printf(" %s#%u", list ? "class" : "verb", i);
    for (i = 0; i < 4; i++) printf(i ? ",%u" : " %u", (unsigned)hoi_varint(c));
}

static void print(uint64_t kind, hoi_cursor *c) {
    static const int integers[] = { 7, 2, 7, 6 };
    unsigned v[7] = { 0 }; /* those that a message begins with */
    for (int i = 0; kind <= HOI_VOCABULARY && i < integers[kind]; i++) v[i] = (unsigned)hoi_varint(c);
    int length = 0;
    if (kind == HOI_FRAME) {
        printf("frame %u: %ux%u, %u people, %u left out\n", v[0], v[1], v[2], v[4], v[5]);
        for (; v[6] && !c->bad; v[6]--) {
            printf("  %.2f", hoi_byte(c) / 255.0), print_place(c, 0, v[3]);
            if (hoi_byte(c)) print_place(c, 1, v[3]);
            printf("\n");
        }
    } else if (kind == HOI_ERROR) {
        const char *text = hoi_text(c, &length);
        printf("error in frame %u, part %u: %.*s\n", v[0], v[1], length, text);
    } else if (kind == HOI_STATUS) {
        printf("status %u: %u s, %u frames, %.1f/s, %u dropped, %u lost", v[0], v[1], v[2], v[3] / 10.0, v[4], v[5]);
        printf(v[6] ? ", %d C\n" : "\n", v[6] ? (int8_t)hoi_byte(c) : 0);
    } else if (kind == HOI_VOCABULARY) {
        if (v[0] != vocabulary) memset(names, 0, sizeof names), vocabulary = v[0];
        for (; v[5] && !c->bad; v[5]--, v[4]++) {
            const char *text = hoi_text(c, &length);
            if (v[3] < 2 && v[4] < 512) snprintf(names[v[3]][v[4]], 64, "%.*s", length, text);
        }
    }
    fflush(stdout);
}

int main(int argc, char **argv) {
    static hoi_reader reader;
    uint8_t bytes[256];
    struct termios line;
    int port = argc > 1 ? open(argv[1], O_RDONLY | O_NOCTTY) : STDIN_FILENO;
    if (port < 0) return perror(argv[1]), 1;
    if (tcgetattr(port, &line) == 0) {
        cfmakeraw(&line);
        if (cfsetspeed(&line, argc > 2 ? (speed_t)atol(argv[2]) : B115200) || tcsetattr(port, TCSANOW, &line))
            return perror("speed"), 1;
    }
    for (ssize_t n; (n = read(port, bytes, sizeof bytes)) > 0;)
        for (ssize_t i = 0; i < n; i++) hoi_feed(&reader, bytes[i], print);
    fprintf(stderr, "%lu messages, %lu lost, %lu damaged\n", reader.messages, reader.lost, reader.damaged);
    return 0;
}
