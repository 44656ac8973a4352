/*
 * The one request and reply of the peers, whatever its form on the wire: an operation, a serial that is unique per
 * call, a number whose meaning depends on the operation, and bytes. It is also the Hessian form (payload "message").
 */
package bowline.interop;

import java.io.Serializable;
import java.nio.charset.StandardCharsets;

public final class Message implements Serializable {
    private static final long serialVersionUID = 1L;

    public String op;
    public int serial;
    public int argument;
    public byte[] body;

    public Message() {}

    public Message(String op, int serial, int argument, byte[] body) {
        this.op = op;
        this.serial = serial;
        this.argument = argument;
        this.body = body;
    }

    public Message(String op, int serial, int argument, String text) {
        this(op, serial, argument, text.getBytes(StandardCharsets.UTF_8));
    }

    public String text() {
        return new String(body, StandardCharsets.UTF_8);
    }

    /** Bytes that depend on the call, so that an answer that belongs to another call is noticed. Always letters. */
    public static byte[] pattern(int serial, int length) {
        byte[] bytes = new byte[length];
        for (int i = 0; i < length; i++) {
            bytes[i] = (byte) (97 + (serial * 7 + i * 3 + (i >> 8)) % 26);
        }
        return bytes;
    }
}
