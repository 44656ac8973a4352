/*
 * Counts what really goes over the connections, by kind and protocol version ("heartbeat v1", "request v2crc") and
 * the status of every response that comes in. The library hides all of it. One Wire serves all connections of a peer.
 */
package bowline.interop;

import com.google.gson.JsonObject;
import io.netty.buffer.ByteBuf;
import io.netty.channel.ChannelDuplexHandler;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelPromise;
import java.util.Map;
import java.util.TreeMap;

final class Wire {
    private final Map<String, Integer> sent = new TreeMap<>();
    private final Map<String, Integer> received = new TreeMap<>();
    private final Map<String, Integer> statuses = new TreeMap<>();

    Handler handler() {
        return new Handler();
    }

    synchronized JsonObject json() {
        JsonObject json = new JsonObject();
        json.add("sent", Lines.counts(sent));
        json.add("received", Lines.counts(received));
        json.add("statuses", Lines.counts(statuses));
        return json;
    }

    /** How many frames of one kind came in, over all versions. */
    synchronized int received(String kind) {
        return received.entrySet().stream()
                .filter(entry -> entry.getKey().startsWith(kind + " "))
                .mapToInt(Map.Entry::getValue)
                .sum();
    }

    private synchronized void count(Map<String, Integer> into, String key) {
        into.merge(key, 1, Integer::sum);
    }

    final class Handler extends ChannelDuplexHandler {
        private final Frames outbound = new Frames(sent, null);
        private final Frames inbound = new Frames(received, statuses);

        @Override
        public void channelRead(ChannelHandlerContext context, Object message) throws Exception {
            if (message instanceof ByteBuf) {
                inbound.feed(((ByteBuf) message).duplicate());
            }
            super.channelRead(context, message);
        }

        @Override
        public void write(ChannelHandlerContext context, Object message, ChannelPromise promise) throws Exception {
            if (message instanceof ByteBuf) {
                outbound.feed(((ByteBuf) message).duplicate());
            }
            super.write(context, message, promise);
        }
    }

    /** Finds the frames in one direction of one connection. It holds at most one frame head. */
    private final class Frames {
        private final Map<String, Integer> kinds;
        private final Map<String, Integer> statuses;
        private final byte[] head = new byte[24];
        private int filled;
        private long skip;

        Frames(Map<String, Integer> kinds, Map<String, Integer> statuses) {
            this.kinds = kinds;
            this.statuses = statuses;
        }

        void feed(ByteBuf in) {
            while (in.isReadable()) {
                if (skip > 0) {
                    int step = (int) Math.min(skip, in.readableBytes());
                    in.skipBytes(step);
                    skip -= step;
                    continue;
                }
                head[filled++] = in.readByte();
                if (filled >= 4 && filled == headLength()) {
                    frame();
                    filled = 0;
                }
            }
        }

        private int base() {
            return head[0] == 2 ? 1 : 0;
        }

        private int headLength() {
            int response = head[1 + base()] == 0 ? 20 : 22;
            return response + 2 * base();
        }

        private void frame() {
            boolean response = head[1 + base()] == 0;
            int lengths = headLength() - 8;
            boolean crc = head[0] == 2 && head[1] == 2 && (head[11] & 1) == 1;
            skip = number(lengths, 2) + number(lengths + 2, 2) + number(lengths + 4, 4) + (crc ? 4 : 0);
            count(kinds, kind() + " " + version(crc));
            if (response && statuses != null && number(2 + base(), 2) != 0) {
                count(statuses, Long.toString(number(10 + 2 * base(), 2)));
            }
        }

        private String kind() {
            int type = head[1 + base()];
            long command = number(2 + base(), 2);
            if (command == 0) {
                return type == 0 ? "heartbeat_ack" : "heartbeat";
            }
            if (command == 100) {
                return "goaway";
            }
            return type == 0 ? "response" : type == 1 ? "request" : type == 2 ? "oneway" : "unknown";
        }

        private String version(boolean crc) {
            if (head[0] != 2) {
                return "v" + head[0];
            }
            return head[1] == 1 ? "v2" : crc ? "v2crc" : "v2plain";
        }

        private long number(int offset, int length) {
            long value = 0;
            for (int i = 0; i < length; i++) {
                value = value << 8 | head[offset + i] & 0xff;
            }
            return value;
        }
    }
}
