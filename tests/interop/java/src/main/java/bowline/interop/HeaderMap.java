/*
 * The header map on the wire: key length, key, value length, value, all lengths 32 bits, -1 for null. A null value is
 * read as null, a null key drops its pair.
 */
package bowline.interop;

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;

final class HeaderMap {
    private HeaderMap() {}

    static byte[] encode(Map<String, String> map) {
        int length = 0;
        for (Map.Entry<String, String> entry : map.entrySet()) {
            length += 8 + bytes(entry.getKey()).length + bytes(entry.getValue()).length;
        }
        ByteBuffer out = ByteBuffer.allocate(length);
        for (Map.Entry<String, String> entry : map.entrySet()) {
            out.putInt(bytes(entry.getKey()).length).put(bytes(entry.getKey()));
            out.putInt(bytes(entry.getValue()).length).put(bytes(entry.getValue()));
        }
        return out.array();
    }

    static Map<String, String> decode(byte[] header) {
        Map<String, String> map = new LinkedHashMap<>();
        ByteBuffer in = ByteBuffer.wrap(header);
        while (in.hasRemaining()) {
            String key = string(in);
            String value = string(in);
            if (key != null) {
                map.put(key, value);
            }
        }
        return map;
    }

    private static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    private static String string(ByteBuffer in) {
        int length = in.getInt();
        if (length < 0) {
            return null;
        }
        byte[] bytes = new byte[length];
        in.get(bytes);
        return new String(bytes, StandardCharsets.UTF_8);
    }
}
