/*
 * The four forms in which a Message travels: "message" (a Hessian object), "string" (java.lang.String), "raw" (header
 * map and bare bytes) and "sofa" (SofaRequest and SofaResponse, the only form that sofa-bolt-node speaks).
 */
package bowline.interop;

import com.alipay.remoting.CustomSerializerManager;
import com.alipay.sofa.rpc.core.request.SofaRequest;
import com.alipay.sofa.rpc.core.response.SofaResponse;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

enum Payload {
    MESSAGE,
    STRING,
    RAW,
    SOFA;

    /** The classes for which a peer registers its user processor. */
    static final List<String> REQUEST_CLASSES =
            Arrays.asList(
                    Message.class.getName(),
                    String.class.getName(),
                    Raw.class.getName(),
                    SofaRequest.class.getName());

    static void registerSerializers() {
        CustomSerializerManager.registerCustomSerializer(Raw.class.getName(), new RawSerializer());
        CustomSerializerManager.registerCustomSerializer(SofaRequest.class.getName(), new SofaSerializer());
    }

    static Payload named(String name) {
        return valueOf(name.toUpperCase());
    }

    /** The form of a request that arrived, so that its reply takes the same. */
    static Payload of(Object request) {
        if (request instanceof Message) {
            return MESSAGE;
        }
        if (request instanceof String) {
            return STRING;
        }
        return request instanceof Raw ? RAW : SOFA;
    }

    Object request(Message message, String service) {
        switch (this) {
            case MESSAGE:
                return message;
            case STRING:
                return string(message);
            case RAW:
                return Raw.of(message, service);
            default:
                return sofaRequest(message, service);
        }
    }

    Object reply(Message message) {
        switch (this) {
            case MESSAGE:
                return message;
            case STRING:
                return string(message);
            case RAW:
                return Raw.of(message, null);
            default:
                SofaResponse response = new SofaResponse();
                response.appResponse =
                        new ArrayList<>(List.of(message.op, message.serial, message.argument, message.body));
                return response;
        }
    }

    static Message read(Object object) {
        if (object instanceof Message) {
            return (Message) object;
        }
        if (object instanceof String) {
            String[] parts = ((String) object).split(" ", 4);
            return new Message(parts[0], Integer.parseInt(parts[1]), Integer.parseInt(parts[2]), parts[3]);
        }
        if (object instanceof Raw) {
            return ((Raw) object).message();
        }
        if (object instanceof SofaRequest) {
            SofaRequest sofa = (SofaRequest) object;
            return fields(sofa.methodName, sofa.methodArgs[0], sofa.methodArgs[1], sofa.methodArgs[2]);
        }
        if (object instanceof SofaResponse && ((SofaResponse) object).appResponse instanceof List) {
            List<?> list = (List<?>) ((SofaResponse) object).appResponse;
            return fields(list.get(0), list.get(1), list.get(2), list.get(3));
        }
        throw new IllegalArgumentException("not a message: " + (object == null ? "null" : object.getClass()));
    }

    private static Message fields(Object op, Object serial, Object argument, Object body) {
        byte[] bytes = body == null ? new byte[0] : (byte[]) body;
        return new Message((String) op, ((Number) serial).intValue(), ((Number) argument).intValue(), bytes);
    }

    private static String string(Message message) {
        String text = new String(message.body, StandardCharsets.UTF_8);
        return message.op + " " + message.serial + " " + message.argument + " " + text;
    }

    private static SofaRequest sofaRequest(Message message, String service) {
        SofaRequest sofa = new SofaRequest();
        sofa.methodName = message.op;
        sofa.targetServiceUniqueName = service == null ? "interop" : service;
        sofa.targetAppName = "interop";
        sofa.methodArgSigs = new String[] {"int", "int", "[B"};
        sofa.methodArgs = new Object[] {message.serial, message.argument, message.body};
        return sofa;
    }
}
