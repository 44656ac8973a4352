/*
 * Payload "raw": the content is exactly the message's bytes (0 bytes are possible) and everything else stands in the
 * header map, as a SOFARPC client would put "service" there. Only a CustomSerializer can do that.
 */
package bowline.interop;

import java.util.LinkedHashMap;
import java.util.Map;

public final class Raw {
    public Map<String, String> header = new LinkedHashMap<>();
    public byte[] content = new byte[0];

    public static Raw of(Message message, String service) {
        Raw raw = new Raw();
        if (service != null) {
            raw.header.put("service", service);
        }
        raw.header.put("op", message.op);
        raw.header.put("serial", Integer.toString(message.serial));
        raw.header.put("argument", Integer.toString(message.argument));
        raw.content = message.body;
        return raw;
    }

    public Message message() {
        int serial = Integer.parseInt(header.getOrDefault("serial", "0"));
        int argument = Integer.parseInt(header.getOrDefault("argument", "0"));
        return new Message(header.get("op"), serial, argument, content);
    }
}
