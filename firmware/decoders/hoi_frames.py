"""Prints what hoi-device says with the serial protocol `frames` (docs/serial.md), from a serial port or a file:
`python3 hoi_frames.py /dev/ttyUSB0 115200`. For a program of your own import Reader. Python 3.11, nothing else."""
import os, sys
from binascii import crc_hqx
from contextlib import suppress
FRAME, ERROR, STATUS, VOCABULARY = range(4)


class Message:
    """The rest of a message; IndexError where it ends too early."""
    def __init__(self, data):
        self.data, self.at = data, 0

    def byte(self):
        self.at += 1
        return self.data[self.at - 1]

    def varint(self):
        value, shift, byte = 0, 0, 128
        while byte & 128:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
        return value

    def varints(self, count):
        return [self.varint() for _ in range(count)]

    def text(self):
        return bytes(self.byte() for _ in range(self.varint())).decode("utf-8", "replace")


def unstuff(packet):
    """COBS; nothing where bytes are missing."""
    out, at = bytearray(), 0
    while at < len(packet):
        end = at + packet[at]
        out += packet[at + 1 : end] + (b"\0" if packet[at] < 255 and end < len(packet) else b"")
        at = end
    return bytes(out) if at == len(packet) else b""


class Reader:
    """Feed it bytes; it gives (kind, Message) and counts messages, lost and damaged ones."""
    def __init__(self):
        self.buffer, self.next, self.messages, self.lost, self.damaged = b"", 0, 0, 0, 0

    def feed(self, data):
        *packets, rest = (self.buffer + data).split(b"\0")
        self.buffer = rest[:1021]  # one more than the longest packet: what is too long stays damaged
        for packet in filter(None, packets):
            payload = unstuff(packet) if len(packet) <= 1020 else b""
            crc = int.from_bytes(payload[-2:], "little")
            if len(payload) < 8 or payload[0] != 1 or crc_hqx(payload[:-2], 0xFFFF) != crc or min(payload[5:-2]) > 127:
                self.damaged += 1  # the last: no byte ends the message's kind
                continue
            sequence = int.from_bytes(payload[1:5], "little")
            if self.messages:  # a smaller number: the device began anew
                self.lost += sequence - (self.next if sequence >= self.next else 0)
            self.messages, self.next = self.messages + 1, (sequence + 1) % 2**32
            message = Message(payload[5:-2])
            yield message.varint(), message


def show(kind, message, names):
    def place(what):  # its name, or index, and its box
        index, box = message.varint(), message.varints(4)
        return " " + names.get((of, what, index), f"{what}#{index}") + " " + ",".join(map(str, box))
    if kind == FRAME:
        frame, width, height, of, people, left_out, triplets = message.varints(7)
        print(f"frame {frame}: {width}x{height}, {people} people, {left_out} left out")
        for _ in range(triplets):
            print(f"  {message.byte() / 255:.2f}" + place("verb") + (place("class") if message.byte() else ""))
    elif kind == ERROR:
        print("error in frame {}, part {}: ".format(*message.varints(2)) + message.text())
    elif kind == STATUS:
        state, uptime, frames, in_10_s, dropped, lost, degrees = message.varints(7)
        print(f"status {state}: {uptime} s, {frames} frames, {in_10_s / 10}/s, {dropped} dropped, {lost} lost", end="")
        print(f", {(message.byte() + 128) % 256 - 128} C" if degrees else "")
    elif kind == VOCABULARY:
        of, _, _, what, first, count = message.varints(6)
        names.update({(of, ("verb", "class")[what], first + i): message.text() for i in range(count)})


if __name__ == "__main__":
    port, reader, names = os.open(sys.argv[1], os.O_RDONLY | os.O_NOCTTY), Reader(), {}
    if os.isatty(port):
        import termios, tty
        tty.setraw(port, termios.TCSANOW)
        line = termios.tcgetattr(port)
        line[4] = line[5] = getattr(termios, "B" + (sys.argv[2] if len(sys.argv) > 2 else "115200"))
        termios.tcsetattr(port, termios.TCSANOW, line)
    with suppress(OSError):  # the port has gone
        while data := os.read(port, 256):
            for kind, message in reader.feed(data):
                with suppress(IndexError):  # a message that ends too early
                    show(kind, message, names)
            sys.stdout.flush()
    print(f"{reader.messages} messages, {reader.lost} lost, {reader.damaged} damaged", file=sys.stderr)
